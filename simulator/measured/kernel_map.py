"""Fit of a case's constants on rows of its tables, with the priors of the family or of a sibling device."""

from functools import lru_cache
from typing import Any

import numpy as np

from simulator.costs.gemm import UNQUANTISED
from simulator.costs.numerics import constant_specs
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.map_fit import Prior, map_fit

MAX_POINTS = 1200
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
    shape, measured_s = case.shape(rows), rows["latency_s"].to_numpy(np.float64)
    base, fixed = prior_constants(case), fixed_constants(case)
    share = _SIBLING_SPREAD if case.sibling else 1.0
    spreads = {s.name: share * s.log_sd for s in constant_specs(type(base)) if s.name not in fixed}
    return map_fit(lambda constants: case.latency_s(shape, constants), measured_s, Prior(base, spreads))


@lru_cache(maxsize=64)
def prior_constants(case: KernelCase) -> Any:
    """Where a fit begins and what it is drawn to: the sibling's constants, or the medians of the family."""
    return fit(case.sibling, case.sibling.fit_rows) if case.sibling else case.prior_constants


def fixed_constants(case: KernelCase) -> frozenset[str]:
    """Constants that the rows of a case cannot speak about, which stay at the median of their prior.

    Where a benchmark quantises the input, that and the launch are one sum; the launch is near that of bf16.
    """
    quantises = case.family == "gemm" and case.dtype not in UNQUANTISED
    return frozenset({"launch_s"} if quantises else {"quantize_s", "quantize_bytes"})
