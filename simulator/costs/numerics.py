"""Small numerical pieces that several kernel models share, and the declaration of a fitted constant.

A family's constants are a frozen dataclass; each field is declared with `constant`, which keeps the unit
and the prior (median and log standard deviation) beside the name, so the fitter, the YAML reader and the
formula share one description.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_specs.records.quantities import UNITS
from simulator.costs.estimates import BOUNDS, FloatArray

#: kernels longer than this begin to lose clock to the power limit
DROOP_ONSET_S = 300e-6


@dataclass(frozen=True, slots=True)
class Priced:
    """Latencies in seconds and the index in `BOUNDS` of what limits each.

    `shape` is what was priced, where a residual may correct it; `floor_s` is what it may not go below, where
    operands come from memory.
    """

    latency_s: FloatArray
    bound: NDArray[np.int8]
    shape: object = None
    floor_s: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class ConstantSpec:
    """Name, unit and prior of a fitted constant: median in SI and standard deviation of its logarithm."""

    name: str
    unit: str
    median: float
    log_sd: float

    @property
    def dimension(self) -> str:
        """The dimension that `unit` measures."""
        return UNITS[self.unit][0]


def constant(median: float, log_sd: float, unit: str = "1") -> float:
    """A dataclass field for a positive constant with a log-normal prior; `median` is in `unit`."""
    si = median * UNITS[unit][1]
    return field(default=si, metadata={"unit": unit, "median": si, "log_sd": log_sd})


def constant_specs(constants: type[Any]) -> tuple[ConstantSpec, ...]:
    """The fitted constants that a dataclass declares, in order; its other fields are choices of form."""
    return tuple(ConstantSpec(f.name, **f.metadata) for f in fields(constants) if f.metadata)


def smooth_max(sharpness: float, *terms: FloatArray) -> FloatArray:
    """The p-norm of the terms: their maximum for a large `sharpness`, their sum at 1."""
    largest = np.maximum.reduce(terms)
    total = sum((term / largest) ** sharpness for term in terms)
    return np.asarray(largest * total ** (1 / sharpness))


def smooth_min(sharpness: float, first: FloatArray, second: FloatArray) -> FloatArray:
    """A minimum without a corner: what a switch between two protocols looks like when both are tuned."""
    return np.asarray((first**-sharpness + second**-sharpness) ** (-1 / sharpness))


def soft_waves(waves: FloatArray, softness: float) -> FloatArray:
    """Waves of thread blocks: 1 up to a full device, then between the whole number above and the fraction."""
    share = softness / (1 + softness)
    return np.where(waves <= 1, 1.0, (1 - share) * np.ceil(waves) + share * waves)


def drooped(latency_s: FloatArray, droop: float) -> FloatArray:
    """Latency with the clock droop of long kernels: logarithmic beyond `DROOP_ONSET_S`."""
    return np.asarray(latency_s * (1 + droop * np.log1p(latency_s / DROOP_ONSET_S)))


def cache_hit(working_set_bytes: FloatArray, cache_bytes: float, steepness: float) -> FloatArray:
    """Share of the traffic that finds its data in a cache of that size."""
    return np.asarray(1 / (1 + (working_set_bytes / cache_bytes) ** steepness))


def largest_term(**terms: FloatArray) -> NDArray[np.int8]:
    """Index in `BOUNDS` of the largest term of each row; terms are named after bounds."""
    codes = np.array([BOUNDS.index(name) for name in terms], np.int8)
    stacked = np.stack(np.broadcast_arrays(*terms.values()))
    return np.asarray(codes[np.argmax(stacked, axis=0)])
