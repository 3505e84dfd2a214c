"""Every NVIDIA system that measured rows name is one that resolves, or a table says why it does not."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware_specs.library import load_system, unmodelled_systems
from hardware_specs.records.errors import InputError

COLUMNS = ("system_key", "system")
#: how names of hosts, of their memories and of other vendors' boards begin
OTHERS = (
    *("agx", "amd", "cpu", "dlrm", "igx", "jetson", "micron", "mi3", "mixed_mi3", "orin"),
    *("skx", "spr", "turin", "vistara", "xeon"),
)


def named_systems(folder: Path) -> Iterator[tuple[str, str]]:
    """File and name of every system in the rows of serving runs and of published figures."""
    for path in sorted((*folder.glob("serving_*.csv"), *folder.glob("figures_*.csv"))):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        yield from {(path.name, row[name]) for row in rows for name in COLUMNS if row.get(name)}


def resolves(name: str) -> bool:
    try:
        load_system(name)
    except InputError as error:
        return "system must be described; not:" in str(error)
    return True


def test_every_nvidia_system_of_measured_rows_resolves_or_has_a_reason_why_not(data_dir: Path) -> None:
    named = [item for item in named_systems(data_dir / "measured") if not item[1].lower().startswith(OTHERS)]
    assert len({file for file, _ in named}) >= 4
    assert len({name for _, name in named}) >= 25
    assert not {f"{file}: {name}" for file, name in named if not resolves(name)}


@pytest.mark.parametrize("name", unmodelled_systems())
def test_a_reason_is_given_only_where_there_is_no_system(name: str) -> None:
    with pytest.raises(InputError, match=r"system must be described; not: .{20}"):
        load_system(name)
