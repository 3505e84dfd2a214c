"""Evidence: how well a number is known. Every result carries a grade and a 90% interval."""

from dataclasses import dataclass
from enum import StrEnum
from math import exp


class Grade(StrEnum):
    """How a number is known, best first. Grades compare: `max` of grades is the worst of them."""

    A = "A"  # measured in this configuration
    B = "B"  # calibrated on this device and kernel family
    C = "C"  # transferred from other devices, or an input was assumed
    D = "D"  # datasheet only


def worst(*grades: Grade) -> Grade:
    """The weakest of the grades: a composed number is known no better than its parts."""
    return max(grades)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 90% interval, unit and grade. The interval is never empty."""

    value: float
    low: float
    high: float
    unit: str
    grade: Grade

    @classmethod
    def from_log_half_width(cls, value: float, log_half_width: float, unit: str, grade: Grade) -> "Estimate":
        """An interval symmetric in log space: value / e^w .. value * e^w."""
        spread = exp(log_half_width)
        return cls(value, value / spread, value * spread, unit, grade)

    def scaled(self, factor: float, unit: str) -> "Estimate":
        """The same estimate in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, unit, self.grade)
