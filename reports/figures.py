"""Every sourced figure inside a part, a stack or any other frozen record, as rows of a table and as JSON."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

from pydantic import BaseModel
from rich.console import Group

from hardware_specs.records.quantities import Quantity
from reports.tables import table


def figures_of(part: object, path: str = "") -> Iterator[tuple[str, Quantity]]:
    """Every quantity inside a record, with its path such as `device.memory.capacity_bytes`."""
    if isinstance(part, Quantity):
        yield path, part
    elif isinstance(part, tuple | list):
        for index, item in enumerate(part):
            yield from figures_of(item, f"{path}[{index}]")
    else:
        for name, value in _members(part):
            yield from figures_of(value, f"{path}.{name}" if path else name)


def _members(part: object) -> Iterable[tuple[str, object]]:
    if isinstance(part, Mapping):
        return [(str(key), value) for key, value in part.items()]
    if isinstance(part, BaseModel):
        return list(part)
    if is_dataclass(part) and not isinstance(part, type):
        return [(field.name, getattr(part, field.name)) for field in fields(part)]
    return ()


def figure_table(part: object) -> Group:
    """Figures with value as written, kind and source."""
    columns = ("figure", ">value", "kind", "source")
    return table(
        "Figures", columns, ((path, q.written(), q.kind.value, _source(q)) for path, q in figures_of(part))
    )


def figure_json(part: object) -> dict[str, object]:
    """The same figures by path, values in SI."""
    return {
        path: {"value_si": q.value, "unit": q.unit, "kind": q.kind.value, "source": q.source, "note": q.note}
        for path, q in figures_of(part)
    }


def _source(quantity: Quantity) -> str:
    return f"{quantity.source} ({quantity.note})" if quantity.note else quantity.source
