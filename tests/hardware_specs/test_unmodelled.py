"""Every system that measured rows name is one that resolves, or a table says why it does not."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware_specs.library import load_system, unmodelled_systems
from hardware_specs.records.errors import InputError

COLUMNS = ("system_key", "system")


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


def test_every_system_of_measured_rows_resolves_or_has_a_reason_why_not(data_dir: Path) -> None:
    named = list(named_systems(data_dir / "measured"))
    assert len({file for file, _ in named}) >= 4
    assert len({name for _, name in named}) >= 75
    assert not {f"{file}: {name}" for file, name in named if not resolves(name)}


@pytest.mark.parametrize("name", unmodelled_systems())
def test_a_reason_is_given_only_where_there_is_no_system(name: str) -> None:
    with pytest.raises(InputError, match=r"system must be described; not: .{20}"):
        load_system(name)
