"""Behind the kernel library: broadcasting, empty calls, choice of constants, memory of scalar calls."""

from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.evidence import Grade, worst
from simulator.costs.calibration import Calibrations, Choice
from simulator.costs.estimates import BOUNDS, FloatArray, KernelEstimate
from simulator.costs.figures import DeviceFigures
from simulator.costs.kernel_choice import KernelChoice, gemm_kernels
from simulator.costs.numerics import Priced
from simulator.costs.residual_features import coordinates

#: of peak and bandwidth, that no correction goes beyond
_BEST_SHARE = 0.99
#: takes the family's constants and one flat array a dimension
Formula = Callable[..., Priced]

#: dtypes whose kernels nobody measured borrow the constants of the dtype beside them, at grade D
_STAND_IN = {"fp16": "bf16", "mxfp8": "fp8_block", "int8": "fp8", "mxfp4": "nvfp4"}
#: half-width in log space where neither the kernel nor its transfer was ever measured
UNMEASURED_LOG_HALF_WIDTH = 0.6
_MAX_MEMO = 200_000


class Pricing:
    """Turns formulas into estimates on one device, for one serving engine."""

    def __init__(self, device: DeviceFigures, backend: str, calibrations: Calibrations) -> None:
        self.device = device
        self.backend = backend
        self._calibrations = calibrations
        self._memo: dict[Hashable, KernelEstimate] = {}

    def __call__(
        self,
        family: str,
        dtype: str,
        kernels: KernelChoice,
        formula: Formula,
        *dims: ArrayLike,
        may_be_zero: int = 0,
        memo_key: Hashable = None,
    ) -> KernelEstimate:
        """The estimate in the common shape of `dims`; the last `may_be_zero` of them may be 0 in a real call.

        A scalar call is remembered under family, dtype, dims and `memo_key`, which names what else the
        formula depends on.
        """
        if any(np.ndim(dim) for dim in dims):
            return self._price(family, dtype, kernels, formula, dims, may_be_zero)
        key = (family, dtype, memo_key, *(float(np.asarray(dim)) for dim in dims))
        if key not in self._memo:
            if len(self._memo) >= _MAX_MEMO:
                self._memo.clear()
            self._memo[key] = self._price(family, dtype, kernels, formula, dims, may_be_zero)
        return self._memo[key]

    def _price(
        self,
        family: str,
        dtype: str,
        kernels: KernelChoice,
        formula: Formula,
        dims: tuple[ArrayLike, ...],
        may_be_zero: int,
    ) -> KernelEstimate:
        arrays = np.broadcast_arrays(*(np.asarray(dim, np.float64) for dim in dims))
        flat = [array.ravel() for array in arrays]
        if any((array < 0).any() or not np.isfinite(array).all() for array in flat):
            raise InputError(Problem("dimensions of a call must be finite and not negative", path=family))
        n_sized = len(flat) - may_be_zero
        empty = np.any([array == 0 for array in flat[:n_sized]], axis=0)
        filled = [np.where(empty, 1.0, array) for array in flat[:n_sized]] + flat[n_sized:]
        estimates = [
            self._as_estimate(formula(choice.calibrated.constants, *filled), choice, empty, arrays[0].shape)
            for choice in self._choices(family, dtype, kernels)
        ]
        return estimates[0] if len(estimates) == 1 else fastest(*estimates)

    def _choices(self, family: str, dtype: str, kernels: KernelChoice) -> tuple[Choice, ...]:
        if kernels.best_of:
            own = self._calibrations.own(self.device, family, dtype, kernels.best_of)
            if own:
                return own
        stand_in = _STAND_IN.get(dtype)
        if stand_in is None:
            return (self._calibrations.find(self.device, family, dtype, kernels.kernels),)
        return (self._stand_in(family, dtype, stand_in, kernels),)

    def _stand_in(self, family: str, dtype: str, stand_in: str, kernels: KernelChoice) -> Choice:
        """Constants of a neighbouring dtype: the formula keeps the peak and the bytes of the dtype itself."""
        named = gemm_kernels(self.backend, stand_in) if family == "gemm" else kernels
        found = self._calibrations.find(self.device, family, stand_in, named.kernels)
        width = max(found.log_half_width, UNMEASURED_LOG_HALF_WIDTH)
        evidence = f"{dtype} priced with {found.evidence}"
        return replace(found, grade=Grade.D, log_half_width=width, evidence=evidence)

    def _as_estimate(
        self, priced: Priced, choice: Choice, empty: NDArray[np.bool_], shape: tuple[int, ...]
    ) -> KernelEstimate:
        """The formula, corrected near measured calls; a stand-in's interval is at least its own."""
        latency_s, half_width = priced.latency_s, np.full(len(empty), choice.log_half_width)
        at = coordinates(priced.shape, self.device) if choice.residual else None
        if choice.residual is not None and at is not None:
            log_correction, width = choice.residual(at)
            corrected_s = latency_s * np.exp(log_correction)
            if priced.floor_s is not None:  # tables time some calls with operands in cache
                corrected_s = np.maximum(corrected_s, np.minimum(latency_s, priced.floor_s / _BEST_SHARE))
            latency_s = corrected_s
            half_width = np.maximum(half_width, width) if choice.grade is Grade.D else width
        return KernelEstimate(
            np.where(empty, 0.0, latency_s).reshape(shape),
            np.where(empty, BOUNDS.index("launch"), priced.bound).astype(np.int8).reshape(shape),
            half_width.reshape(shape),
            choice.grade,
            choice.evidence,
        )


def fastest(*estimates: KernelEstimate) -> KernelEstimate:
    """The fastest of several kernels, call by call, known as badly as the worst of them."""
    latency = np.stack([estimate.latency_s for estimate in estimates])
    winner = np.argmin(latency, axis=0)[None]

    def of_winner(values: list[FloatArray]) -> FloatArray:
        return np.asarray(np.take_along_axis(np.stack(values), winner, axis=0)[0])

    return KernelEstimate(
        of_winner([estimate.latency_s for estimate in estimates]),
        np.take_along_axis(np.stack([e.bound for e in estimates]), winner, axis=0)[0],
        of_winner([estimate.log_half_width for estimate in estimates]),
        worst(*(estimate.grade for estimate in estimates)),
        f"fastest of: {'; '.join(estimate.evidence for estimate in estimates)}",
    )


def from_threshold(
    below: KernelEstimate, above: KernelEstimate, is_above: NDArray[np.bool_]
) -> KernelEstimate:
    """One estimate where the condition does not hold and the other where it does, call by call."""
    return KernelEstimate(
        np.where(is_above, above.latency_s, below.latency_s),
        np.where(is_above, above.bound, below.bound),
        np.where(is_above, above.log_half_width, below.log_half_width),
        worst(above.grade, below.grade),
        above.evidence,
    )


def weakened(estimate: KernelEstimate, why: str) -> KernelEstimate:
    """An estimate outside of what was measured: grade D, with the interval that this deserves."""
    return KernelEstimate(
        estimate.latency_s,
        estimate.bound,
        np.asarray(np.maximum(estimate.log_half_width, UNMEASURED_LOG_HALF_WIDTH)),
        Grade.D,
        f"{why}; {estimate.evidence}",
    )
