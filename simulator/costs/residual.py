"""What a kernel's formula misses near measured calls: a bounded correction that fades away from them.

The correction of the logarithm of a latency is a sum of Gaussian bumps around some of the fitted calls (the
mean of a Gaussian process with as many inducing points), at most a factor of two. Far from all of
them it is zero and the formula stands alone. A second sum over the same bumps says how far off calls are
here; the 90% interval is that spread, between the bumps grown to the formula's own, times a factor that is
conformal by site. Arrays of a device are in one `.npz` beside its calibration file, read when first needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from importlib.resources.abc import Traversable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hardware_specs.records.errors import InputError, Problem
from simulator.costs.estimates import FloatArray

MAX_LOG_CORRECTION = 0.7
#: logarithms of the smallest and largest spread that the bumps may say
_SPREAD_BOUNDS = (-5.0, 0.5)
_CHUNK = 500
_DIGITS = 6


@dataclass(frozen=True)
class Bumps:
    """`weights` [bumps, 2] of the correction and of the logarithm of the spread, around `centres`.

    Centres [bumps, coordinates] are in half precision, as they are shipped.
    """

    centres: NDArray[np.float16]
    weights: NDArray[np.float32]

    @property
    def arrays(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Centres and weights."""
        return self.centres, self.weights

    @cached_property
    def _scaled(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        centres = self.centres.astype(np.float64)
        middle = centres.mean(axis=0)
        centred = centres - middle
        return middle, centred, (centred**2).sum(axis=1)

    def nearness(self, coordinates: FloatArray) -> FloatArray:
        """How near each call is to each centre: 1 on it, 0 far away, [calls, bumps]."""
        middle, centred, squares = self._scaled
        at = coordinates - middle
        exponent = at @ centred.T
        exponent -= 0.5 * squares
        exponent -= 0.5 * (at**2).sum(axis=1)[:, None]
        return np.exp(np.minimum(exponent, 0, out=exponent), out=exponent)

    def sums(self, coordinates: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Correction (not yet bounded), logarithm of the spread, and nearness to the nearest centre.

        Products of matrices add up in an order that depends on their size. Digits that it touches are cut
        off, so that a call has the same price alone and among others.
        """
        parts = []
        for start in range(0, len(coordinates), _CHUNK):
            near = self.nearness(coordinates[start : start + _CHUNK])
            parts.append(np.column_stack([near @ self.weights, near.max(axis=1)]))
        correction, spread, nearest = np.round(np.concatenate(parts), _DIGITS).T
        return correction, spread, nearest


@dataclass(frozen=True)
class Residual:
    """A correction with its spread. Spreads are half-widths in log space.

    `usual_spread` multiplies what the bumps say, `far_spread` is that of the formula alone, and `factor`
    makes a spread the half-width of the 90% interval.
    """

    bumps: Bumps
    usual_spread: float
    far_spread: float
    factor: float = 1.0

    def __call__(self, coordinates: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logarithm of measured over formula, and the half-width of its 90% interval, of each call."""
        correction, log_spread, nearest = self.bumps.sums(coordinates)
        here = self.usual_spread * np.exp(np.clip(log_spread, *_SPREAD_BOUNDS))
        spread = nearest * here + (1 - nearest) * np.maximum(here, self.far_spread)
        bounded = np.clip(correction, -MAX_LOG_CORRECTION, MAX_LOG_CORRECTION)
        return bounded, np.asarray(self.factor * spread)


class ResidualScales(BaseModel):
    """What an entry says of its residual: scales of its 90% interval in log space.

    `formula_mape` is what the formula alone misses on the test sites, `median_half_width` is that of the
    intervals there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    usual_spread: float
    far_spread: float
    factor: float
    formula_mape: float
    median_half_width: float


@dataclass(frozen=True)
class BumpsFile:
    """The bumps of one device, by `family dtype kernel`; the file is checked against its hash."""

    file: Traversable
    sha256: str
    _read: dict[str, Bumps] = field(default_factory=dict, repr=False, compare=False)

    def get(self, label: str) -> Bumps:
        """The bumps of one kernel.

        Raises:
            InputError: the file is not the one that the calibration names, or lacks the kernel.
        """
        if not self._read:
            self._read.update(self._load())
        if label not in self._read:
            raise InputError(
                Problem(f"must hold the bumps of {label}", ", ".join(self._read), self.file.name)
            )
        return self._read[label]

    def _load(self) -> dict[str, Bumps]:
        content = self.file.read_bytes()
        if (found := sha256(content).hexdigest()) != self.sha256:
            raise InputError(Problem("sha256 must be that of the calibration file", found, self.file.name))
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            labels = [name.removesuffix("/centres") for name in arrays.files if name.endswith("/centres")]
            return {label: Bumps(arrays[f"{label}/centres"], arrays[f"{label}/weights"]) for label in labels}


def packed(bumps: Mapping[str, Bumps]) -> bytes:
    """The content of a file of bumps."""
    arrays: dict[str, Any] = {
        f"{label}/{name}": array
        for label, item in bumps.items()
        for name, array in (("centres", item.centres), ("weights", item.weights))
    }
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
