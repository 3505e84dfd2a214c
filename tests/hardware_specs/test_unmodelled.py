"""Every system that measured rows name is one that resolves, or a table says why it does not."""

from collections.abc import Callable

import pytest

from hardware_specs.library import load_system, unmodelled_systems
from hardware_specs.records.errors import InputError

COLUMNS = ("system_key", "system")


def resolves(name: str) -> bool:
    try:
        load_system(name)
    except InputError as error:
        return "system must be described; not:" in str(error)
    return True


def test_every_system_of_measured_rows_resolves_or_has_a_reason_why_not(
    named_in_rows: Callable[..., set[tuple[str, str]]],
) -> None:
    named = named_in_rows(*COLUMNS)
    assert len({file for file, _ in named}) >= 4
    assert len({name for _, name in named}) >= 75
    assert not {f"{file}: {name}" for file, name in named if not resolves(name)}


@pytest.mark.parametrize("name", unmodelled_systems())
def test_a_reason_is_given_only_where_there_is_no_system(name: str) -> None:
    with pytest.raises(InputError, match=r"system must be described; not: .{20}"):
        load_system(name)
