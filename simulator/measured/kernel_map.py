"""Fit of the kernel constants: maximum a posteriori in log space with a robust loss.

The error is the logarithm of predicted over measured, so short and long kernels weigh the same; a soft-L1
loss bounds what a mistimed row can do; the prior of each constant holds those that the rows do not determine.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from simulator.costs.estimates import FloatArray
from simulator.costs.numerics import constant_specs
from simulator.measured.kernel_case import KernelCase, Rows

MAX_POINTS = 1200
MAX_EVALUATIONS = 60
#: where the loss turns from quadratic to linear; chosen on the `choose` sites among 0.01 to 0.1
_LOSS_SCALE = 0.03
#: a sibling's constants say more than the family's medians
_SIBLING_SPREAD = 0.3
_SEED = 0


def sampled(rows: Rows, n_points: int) -> Rows:
    """At most `n_points` rows, drawn with a fixed seed."""
    if len(rows) <= n_points:
        return rows
    chosen = np.random.default_rng(_SEED).choice(len(rows), n_points, replace=False)
    return rows.iloc[np.sort(chosen)]


def fit(case: KernelCase, rows: Rows) -> Any:
    """Constants of the case that explain the rows best, given the priors."""
    rows = sampled(rows, MAX_POINTS)
    shape, measured = case.shape(rows), np.log(rows["latency_s"].to_numpy(np.float64))
    base = prior_constants(case)
    fixed = fixed_constants(case)
    specs = [spec for spec in constant_specs(type(base)) if spec.name not in fixed]
    medians = np.log([getattr(base, spec.name) for spec in specs])
    spreads = np.array([spec.log_sd for spec in specs]) * (_SIBLING_SPREAD if case.sibling else 1.0)

    def constants(logs: FloatArray) -> Any:
        names = [spec.name for spec in specs]
        return replace(base, **dict(zip(names, np.exp(logs).tolist(), strict=True)))

    def residuals(logs: FloatArray) -> FloatArray:
        error = soft_l1(np.log(case.latency_s(shape, constants(logs))) - measured)
        return np.concatenate([error, _LOSS_SCALE * (logs - medians) / spreads])

    with np.errstate(over="ignore"):  # a trial step may overflow: its loss is infinite and it is refused
        found = least_squares(residuals, medians, diff_step=2e-3, max_nfev=MAX_EVALUATIONS, method="trf")
    return constants(found.x)


@lru_cache(maxsize=64)
def prior_constants(case: KernelCase) -> Any:
    """Where a fit begins and what it is drawn to: the sibling's constants, or the medians of the family."""
    return fit(case.sibling, case.sibling.fit_rows) if case.sibling else case.prior_constants


def fixed_constants(case: KernelCase) -> frozenset[str]:
    """Constants that the rows of a case cannot speak about, which stay at the median of their prior.

    Where a benchmark quantises the input, that and the launch are one sum; the launch is near that of bf16.
    """
    quantises = case.family == "gemm" and case.dtype != "bf16"
    return frozenset({"launch_s"} if quantises else {"quantize_s", "quantize_bytes"})


def soft_l1(error: FloatArray) -> FloatArray:
    """Signed residuals whose squares are the soft-L1 loss: quadratic below the scale, linear above."""
    loss = 2 * (np.sqrt(1 + (error / _LOSS_SCALE) ** 2) - 1)
    return np.asarray(np.sign(error) * _LOSS_SCALE * np.sqrt(loss))
