"""Fits a stack's constants to measured serving runs: maximum a posteriori in few, bounded, physical numbers.

Residuals are logarithms of predicted over measured TPOT and TTFT (TTFT at half weight), robust (soft L1 at
10%); priors are Gaussian around the engine's own fit, which in turn has the priors of `PRIORS`. Needs the
extra `[fit]`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.measured.rows import MeasuredRow
from simulator.step.constants import StackConstants

FloatArray = NDArray[np.float64]
Predict = Callable[[MeasuredRow, StackConstants], tuple[float, float]]

TTFT_WEIGHT = 0.5
SOFT_L1 = 0.1


@dataclass(frozen=True)
class Prior:
    """Centre and standard deviation of one constant; `log` constants are fitted and bounded in log space."""

    centre: float
    sigma: float
    low: float
    high: float
    log: bool = False
    free: bool = True


PRIORS: Mapping[str, Prior] = {
    "kernel_scale": Prior(1.0, 0.08, 0.6, 1.7, log=True),
    "small_kernel_s": Prior(1.5e-6, 0.7e-6, 0.0, 8e-6),
    "prefill_scale": Prior(1.05, 0.12, 0.6, 3.0, log=True),
    "host_base_s": Prior(0.2e-3, 0.5e-3, 0.0, 10e-3),
    "host_per_sequence_s": Prior(10e-6, 6e-6, 0.0, 100e-6),
    "host_prefill_s": Prior(1e-3, 2e-3, 0.0, 40e-3),
    "first_token_s": Prior(20e-3, 15e-3, 0.0, 0.3),
    "stream_interval_steps": Prior(5.0, 2.5, 0.0, 40.0),
}

#: a labelled way to run a version (`+mtp`) differs in how long a token takes and how it travels
LABELLED_PRIORS: Mapping[str, Prior] = {
    name: replace(
        prior, free=name in {"kernel_scale", "host_per_sequence_s", "first_token_s", "stream_interval_steps"}
    )
    for name, prior in ({**PRIORS, "kernel_scale": Prior(0.75, 0.20, 0.4, 1.7, log=True)}).items()
}


@dataclass(frozen=True)
class Fit:
    """Fitted constants, the rows behind them and what is left over on them (log predicted / measured)."""

    constants: StackConstants
    n_rows: int
    tpot_log_error: FloatArray
    ttft_log_error: FloatArray


def fit_constants(
    rows: Sequence[MeasuredRow],
    predict: Predict,
    centre: StackConstants,
    *,
    tightness: float = 1.0,
    max_evaluations: int = 7,
    max_rows: int = 48,
    priors: Mapping[str, Prior] = PRIORS,
) -> Fit:
    """The MAP constants for these rows around `centre`; `tightness` divides every prior's deviation."""
    from scipy.optimize import least_squares

    sample = _sample(rows, max_rows)
    names = [name for name, prior in priors.items() if prior.free]
    encode, decode = _coder(names, priors)
    start = encode(centre)
    sigma = np.array([_sigma(priors[n]) for n in names]) / tightness

    def residuals(x: FloatArray) -> FloatArray:
        constants = decode(x, centre)
        errors = [e for row in sample for e in _row_residuals(row, predict(row, constants))]
        return np.concatenate([_soft_l1(np.array(errors)), (x - start) / sigma * SOFT_L1])

    low, high = (
        np.array([_code(priors[n], getattr(priors[n], end)) for n in names]) for end in ("low", "high")
    )
    solution = least_squares(
        residuals,
        np.clip(start, low + 1e-4, high - 1e-4),
        bounds=(low, high),
        max_nfev=max_evaluations,
        diff_step=1e-2,
        x_scale=sigma,
    )
    constants = decode(solution.x, centre)
    tpot, ttft = log_errors(rows, predict, constants)
    return Fit(constants, len(rows), tpot, ttft)


def log_errors(
    rows: Sequence[MeasuredRow], predict: Predict, constants: StackConstants
) -> tuple[FloatArray, FloatArray]:
    """Log of predicted over measured TPOT and TTFT over the rows that have them (ms)."""
    pairs = [(row, predict(row, constants)) for row in rows]
    tpot = [np.log(p[1] / row.figures["tpot_ms"]) for row, p in pairs if "tpot_ms" in row.figures]
    ttft = [np.log(p[0] / row.figures["ttft_ms"]) for row, p in pairs if "ttft_ms" in row.figures]
    return np.array(tpot), np.array(ttft)


def _row_residuals(row: MeasuredRow, predicted: tuple[float, float]) -> tuple[float, float]:
    ttft, tpot = predicted
    figures = row.figures
    tpot_error = float(np.log(tpot / figures["tpot_ms"])) if "tpot_ms" in figures else 0.0
    ttft_error = float(np.log(ttft / figures["ttft_ms"])) if "ttft_ms" in figures else 0.0
    return tpot_error, TTFT_WEIGHT * ttft_error


def _soft_l1(residual: FloatArray) -> FloatArray:
    z = (residual / SOFT_L1) ** 2
    return np.asarray(np.sign(residual) * SOFT_L1 * np.sqrt(2 * (np.sqrt(1 + z) - 1)))


def _sample(rows: Sequence[MeasuredRow], n: int) -> Sequence[MeasuredRow]:
    """At most `n` rows, drawn in turn from each deployment, so that a long series does not outvote others."""
    if len(rows) <= n:
        return rows
    order = np.random.default_rng(0).permutation(len(rows))
    drawn: dict[str, int] = {}
    turns: list[tuple[int, int, int]] = []
    for index in order:
        key = rows[index].deployment_key
        drawn[key] = drawn.get(key, 0) + 1
        turns.append((drawn[key], len(turns), int(index)))
    return [rows[index] for index in sorted(index for _, _, index in sorted(turns)[:n])]


def _code(prior: Prior, value: float) -> float:
    return float(np.log(value)) if prior.log else value / prior.sigma


def _sigma(prior: Prior) -> float:
    return prior.sigma if prior.log else 1.0


def _coder(
    names: Sequence[str], priors: Mapping[str, Prior]
) -> tuple[Callable[[StackConstants], FloatArray], Callable[[FloatArray, StackConstants], StackConstants]]:
    def encode(constants: StackConstants) -> FloatArray:
        return np.array([_code(priors[n], getattr(constants, n)) for n in names])

    def decode(x: FloatArray, base: StackConstants) -> StackConstants:
        values = {
            n: float(np.exp(v)) if priors[n].log else float(v * priors[n].sigma)
            for n, v in zip(names, x, strict=True)
        }
        return replace(base, **values)

    return encode, decode
