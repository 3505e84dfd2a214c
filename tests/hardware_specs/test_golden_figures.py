"""The golden table: every figure of every system in SI, with its kind.

Regenerate: python tests/hardware_specs/test_golden_figures.py > tests/hardware_specs/golden_systems.csv
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

from hardware_specs.library import list_systems, load_system
from hardware_specs.records.quantities import Quantity

GOLDEN = Path(__file__).with_name("golden_systems.csv")


def quantities_in(part: object, path: str) -> Iterator[tuple[str, Quantity]]:
    """Every quantity inside a part, with its dotted path."""
    if isinstance(part, Quantity):
        yield path, part
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from quantities_in(value, f"{path}.{key}")
    elif is_dataclass(part):
        for field in fields(part):
            yield from quantities_in(getattr(part, field.name), f"{path}.{field.name}")


def golden_lines() -> list[str]:
    """One line a figure: path, SI value, kind."""
    return [
        f"{path},{quantity.value:.12g},{quantity.kind.value}"
        for key in list_systems()
        for path, quantity in quantities_in(load_system(key), key)
    ]


def test_every_figure_of_every_system_is_the_golden_one() -> None:
    assert GOLDEN.read_text().splitlines() == ["figure,si_value,kind", *golden_lines()]


if __name__ == "__main__":
    print("figure,si_value,kind")
    print("\n".join(golden_lines()))
