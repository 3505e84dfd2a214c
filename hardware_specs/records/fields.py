"""Pydantic field types for physical figures, one a dimension: a sourced mapping becomes a `Quantity`.

A bare number is never enough. The value is stored in SI, the unit as it was written.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.quantities import UNITS, Kind, Quantity, unit_factor

_REQUIRED = ("value", "unit", "source", "kind")
_KEYS = (*_REQUIRED, "note")


def quantity_reader(
    dimension: str, *, zero: bool = False, whole: bool = False, at_most: float | None = None
) -> Callable[[object], Quantity]:
    """A validator that reads a figure of this dimension: positive, or at least 0 where `zero` is allowed."""

    def read(raw: object) -> Quantity:
        if isinstance(raw, Quantity):
            return raw
        problems = list(_form_problems(raw))
        figure = raw if isinstance(raw, dict) else {}
        if "value" in figure:
            problems += _value_problems(figure["value"], zero=zero, whole=whole)
        factor = _factor(figure["unit"], dimension, problems) if "unit" in figure else 1.0
        if not problems and at_most is not None and figure["value"] * factor > at_most:
            problems.append(Problem(f"must be at most {at_most:g}", str(figure["value"]), path="value"))
        if problems:
            raise InputError(*problems)
        value, unit = figure["value"] * factor, str(figure["unit"])
        return Quantity(value, unit, figure["source"], Kind(figure["kind"]), figure.get("note", ""))

    return read


def _form_problems(raw: object) -> Iterator[Problem]:
    """What is wrong with the form of a figure, whatever its dimension."""
    if not isinstance(raw, dict):
        yield Problem(
            "must be {value, unit, source, kind}; a bare number has no unit, source or kind", repr(raw)
        )
        return
    missing = [key for key in _REQUIRED if key not in raw]
    if missing:
        yield Problem(f"must have value, unit, source and kind; missing: {', '.join(missing)}")
    for key in raw:
        if key not in _KEYS:
            yield Problem(
                f"is not a key here; the keys here are {', '.join(_KEYS)}",
                path=key,
                suggestion=nearest(key, _KEYS),
            )
    for key in ("source", "note"):
        if key in raw and (not isinstance(raw[key], str) or (key == "source" and not raw[key].strip())):
            yield Problem("must be text that says where the figure comes from", repr(raw[key]), path=key)
    kinds = [kind.value for kind in Kind]
    if "kind" in raw and raw["kind"] not in kinds:
        yield Problem(
            f"must be one of {', '.join(kinds)}",
            repr(raw["kind"]),
            path="kind",
            suggestion=nearest(str(raw["kind"]), kinds),
        )


def _value_problems(value: object, *, zero: bool, whole: bool) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield Problem("must be a number; its unit stands beside it under `unit`", repr(value), path="value")
    elif value < 0 or (value == 0 and not zero):
        yield Problem("must not be negative" if zero else "must be greater than 0", str(value), path="value")
    elif whole and value != int(value):
        yield Problem("must be a whole number", str(value), path="value")


def _factor(unit: object, dimension: str, problems: list[Problem]) -> float:
    try:
        return unit_factor(str(unit), dimension)
    except InputError as error:
        problems += [
            Problem(p.requirement, p.given, path="unit", suggestion=p.suggestion) for p in error.problems
        ]
        return 1.0


def _schema(dimension: str) -> WithJsonSchema:
    units = sorted(unit for unit, (of, _) in UNITS.items() if of == dimension)
    properties: dict[str, Any] = {
        "value": {"type": "number"},
        "unit": {"enum": units},
        "source": {"type": "string", "minLength": 1},
        "kind": {"enum": [kind.value for kind in Kind]},
        "note": {"type": "string"},
    }
    return WithJsonSchema(
        {
            "type": "object",
            "properties": properties,
            "required": list(_REQUIRED),
            "additionalProperties": False,
        }
    )


BytesQ = Annotated[Quantity, PlainValidator(quantity_reader("bytes")), _schema("bytes")]
BytesPerSecondQ = Annotated[Quantity, PlainValidator(quantity_reader("bytes_per_s")), _schema("bytes_per_s")]
FlopPerSecondQ = Annotated[Quantity, PlainValidator(quantity_reader("flop_per_s")), _schema("flop_per_s")]
HzQ = Annotated[Quantity, PlainValidator(quantity_reader("hz")), _schema("hz")]
PerSecondQ = Annotated[Quantity, PlainValidator(quantity_reader("per_s")), _schema("per_s")]
WattsQ = Annotated[Quantity, PlainValidator(quantity_reader("w", zero=True)), _schema("w")]
SecondsQ = Annotated[Quantity, PlainValidator(quantity_reader("s", zero=True)), _schema("s")]
JoulesQ = Annotated[Quantity, PlainValidator(quantity_reader("j", zero=True)), _schema("j")]
JoulesPerByteQ = Annotated[
    Quantity, PlainValidator(quantity_reader("j_per_byte", zero=True)), _schema("j_per_byte")
]
JoulesPerFlopQ = Annotated[
    Quantity, PlainValidator(quantity_reader("j_per_flop", zero=True)), _schema("j_per_flop")
]
CountQ = Annotated[
    Quantity, PlainValidator(quantity_reader("dimensionless", whole=True)), _schema("dimensionless")
]
NumberQ = Annotated[
    Quantity, PlainValidator(quantity_reader("dimensionless", zero=True)), _schema("dimensionless")
]
FractionQ = Annotated[
    Quantity,
    PlainValidator(quantity_reader("dimensionless", zero=True, at_most=1.0)),
    _schema("dimensionless"),
]
UsdQ = Annotated[Quantity, PlainValidator(quantity_reader("usd", zero=True)), _schema("usd")]
UsdPerHourQ = Annotated[
    Quantity, PlainValidator(quantity_reader("usd_per_hour", zero=True)), _schema("usd_per_hour")
]
UsdPerJouleQ = Annotated[
    Quantity, PlainValidator(quantity_reader("usd_per_j", zero=True)), _schema("usd_per_j")
]
GramsPerJouleQ = Annotated[
    Quantity, PlainValidator(quantity_reader("g_per_j", zero=True)), _schema("g_per_j")
]
