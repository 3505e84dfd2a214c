"""Quantities: a number, its unit, its source and how it is known. SI floats inside, units at the edge."""

import re
from dataclasses import dataclass
from enum import StrEnum

from hardware_specs.records.errors import InputError, Problem, nearest


class Kind(StrEnum):
    """How a figure is known."""

    DATASHEET = "datasheet"
    MEASURED = "measured"
    FITTED = "fitted"
    ASSUMED = "assumed"


_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SMALL = {"m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

# unit -> (dimension, factor to the SI base unit of that dimension)
UNITS: dict[str, tuple[str, float]] = {"1": ("dimensionless", 1.0), "%": ("dimensionless", 0.01)}
UNITS |= {f"{p}B": ("bytes", f) for p, f in (_DECIMAL | _BINARY).items()}
UNITS |= {f"{p}B/s": ("bytes_per_s", f) for p, f in (_DECIMAL | _BINARY).items()}
UNITS |= {f"{p}bit/s": ("bytes_per_s", f / 8) for p, f in _DECIMAL.items()}
UNITS |= {f"{p}{op}/s": ("flop_per_s", f) for p, f in _DECIMAL.items() for op in ("FLOP", "OP")}
UNITS |= {f"{p}Hz": ("hz", f) for p, f in _DECIMAL.items()}
UNITS |= {f"{p}IOPS": ("per_s", f) for p, f in _DECIMAL.items()}
UNITS |= {f"{p}W": ("w", f) for p, f in (_DECIMAL | {"m": 1e-3}).items()}
UNITS |= {f"{p}s": ("s", f) for p, f in ({"": 1.0} | _SMALL).items()} | {
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
}
UNITS |= {f"{p}J": ("j", f) for p, f in ({"": 1.0, "k": 1e3, "M": 1e6} | _SMALL).items()}
UNITS |= {f"{p}J/B": ("j_per_byte", f) for p, f in ({"": 1.0} | _SMALL).items()}
UNITS |= {f"{p}J/bit": ("j_per_byte", 8 * f) for p, f in ({"": 1.0} | _SMALL).items()}
UNITS |= {f"{p}J/FLOP": ("j_per_flop", f) for p, f in ({"": 1.0} | _SMALL).items()}
UNITS |= {"USD": ("usd", 1.0), "kUSD": ("usd", 1e3), "USD/h": ("usd_per_hour", 1.0)}
UNITS |= {"USD/kWh": ("usd_per_j", 1 / 3.6e6), "g/kWh": ("g_per_j", 1 / 3.6e6)}

_TEXT = re.compile(r"^\s*([-+]?(?:\d[\d,_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*$")


def unit_factor(unit: str, dimension: str) -> float:
    """Factor from `unit` to the SI base unit of `dimension`.

    Raises:
        InputError: the unit is unknown or has another dimension.
    """
    known = {name for name, (of, _) in UNITS.items() if of == dimension}
    if unit not in known:
        examples = ", ".join(sorted(known)[:6])
        raise InputError(
            Problem(
                requirement=f"unit must measure {dimension.replace('_', ' ')}, such as {examples}",
                given=repr(unit),
                suggestion=nearest(unit, known),
            )
        )
    return UNITS[unit][1]


def parse_quantity(text: str, dimension: str) -> float:
    """SI value of text such as `4.8 TB/s`.

    Raises:
        InputError: there is no number, no unit, or the unit measures something else.
    """
    match = _TEXT.match(text)
    if match is None or (match[2] is None and dimension != "dimensionless"):
        raise InputError(
            Problem(
                requirement=f"must be a number with a unit of {dimension.replace('_', ' ')}", given=repr(text)
            )
        )
    return float(match[1].replace(",", "").replace("_", "")) * unit_factor(match[2] or "1", dimension)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A physical figure: SI `value`, the `unit` it was written in, `source` and `kind`."""

    value: float
    unit: str
    source: str
    kind: Kind
    note: str = ""

    def __float__(self) -> float:
        return self.value

    def written(self) -> str:
        """The figure in the unit that it was written in, such as `4.8 TB/s`."""
        number = f"{self.value / UNITS[self.unit][1]:.10g}"
        return number if self.unit == "1" else f"{number} {self.unit}"
