"""Fit of the residual of a kernel: ridge regression on Gaussian bumps, sites weighing alike.

Bumps sit on calls drawn from the fitted sites. The correction is fitted with weights that bound what an
outlier can do; the logarithm of its absolute error on sites left out is fitted on the same bumps and says
the spread. A kernel has a residual if, over the fitted sites left out in turn, it lowers the mean error, in
which a mistimed row counts little.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from simulator.costs.estimates import FloatArray
from simulator.costs.residual import MAX_LOG_CORRECTION, Bumps, Residual
from simulator.costs.residual_features import coordinates
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.kernel_map import sampled

#: chosen on the `choose` sites of the H100 and the B200 among 100 to 1,000 bumps and noise of 0.02 to 0.3
N_BUMPS = 512
_N_BUMPS_OF_FEW = 256
_ROWS_A_BUMP = 2
_MAX_ROWS = 10000
_AMPLITUDE = 0.2  # log error of a formula
_NOISE = 0.03
#: where few sites were timed, what one of them shows says less of the next
_NOISE_OF_FEW = 0.06
_NOISE_OF_EXPERTS = 0.15
_OUTLIER = 0.1
_SPREAD_AMPLITUDE = 0.7
_SPREAD_NOISE = 1.2
_LEAST_ERROR = 0.005
_REWEIGHTINGS = 3
_N_FOLDS = 4
_LEAST_GAIN = 0.02
_LEAST_SITES = 2
#: log error beyond which a row counts as mistimed when a residual is judged
_MISTIMED = 0.3
_QUANTILE = 0.9
_SEED = 0
#: families of which calls that grow must take longer, by however little
_STRICTLY_GROWING = ("index_scores",)


@dataclass(frozen=True)
class _Data:
    at: FloatArray  # coordinates
    log_ratio: FloatArray  # measured over formula
    site: "pd.Series[str]"
    noise: float
    n_bumps: int = N_BUMPS

    def where(self, chosen: Any) -> "_Data":
        """Some of the rows."""
        site = self.site[chosen].reset_index(drop=True)
        return replace(self, at=self.at[chosen], log_ratio=self.log_ratio[chosen], site=site)

    @property
    def weight(self) -> FloatArray:
        """Less for each row of a long sweep: the root of one over the rows of its site, 1 on average."""
        weight = self.site.map(self.site.value_counts()).to_numpy(np.float64) ** -0.5
        return np.asarray(weight / weight.mean())


def fit_residual(case: KernelCase, constants: Any, rows: Rows) -> Residual | None:
    """The residual of a kernel's formula over these rows, or None where it does not help or has no sites."""
    if case.family in _STRICTLY_GROWING:
        return None
    data = _data(case, constants, sampled(rows, _MAX_ROWS))
    if data is None or data.site.nunique() < _LEAST_SITES:
        return None
    folds = list(_left_out(data))
    measured = np.concatenate([part.log_ratio for part, _ in folds])
    missed = measured - np.concatenate([said for _, said in folds])
    if not _helps(measured, missed):
        return None
    correction = _fitted(data)
    at = np.concatenate([part.at for part, _ in folds])
    site = pd.concat([part.site for part, _ in folds], ignore_index=True)
    bumps, usual = _with_spread(correction, replace(data, at=at, log_ratio=missed, site=site))
    return Residual(bumps, usual, max(usual, float(np.quantile(np.abs(measured), 0.7))))


def _helps(alone: FloatArray, corrected: FloatArray) -> bool:
    """Whether errors fall, mistimed rows counting little, and the mean relative error does not grow."""
    before, after = (np.minimum(np.abs(errors), _MISTIMED).mean() for errors in (alone, corrected))
    relative = [np.abs(np.expm1(-errors)).mean() for errors in (alone, corrected)]
    return bool(after <= (1 - _LEAST_GAIN) * before and relative[1] <= relative[0])


def applied(residual: Residual | None, case: KernelCase, shape: Any) -> tuple[FloatArray, FloatArray | None]:
    """Log correction and half-width of each call of a shape; zero and None without a residual."""
    at = coordinates(shape, case.device) if residual else None
    if residual is None or at is None:
        return np.zeros(1), None
    return residual(at)


def _data(case: KernelCase, constants: Any, rows: Rows) -> _Data | None:
    shape = case.shape(rows)
    at = coordinates(shape, case.device)
    if at is None:
        return None
    measured = rows["latency_s"].to_numpy(np.float64)
    log_ratio = np.log(measured / case.latency_s(shape, constants))
    noise, n_bumps = _fineness(case)
    return _Data(at, log_ratio, rows["site"].reset_index(drop=True), noise, n_bumps)


def _fineness(case: KernelCase) -> tuple[float, int]:
    """Noise and most bumps of a kernel's residual."""
    if case.family == "moe":
        return _NOISE_OF_EXPERTS, _N_BUMPS_OF_FEW
    if case.is_split:
        return _NOISE, N_BUMPS
    return _NOISE_OF_FEW, N_BUMPS if case.family in ("mla_prefill", "mla_decode") else _N_BUMPS_OF_FEW


def _left_out(data: _Data) -> Iterator[tuple[_Data, FloatArray]]:
    """Each fold of sites, and what a residual fitted on the others says there."""
    sites = np.array(sorted(data.site.unique()))
    n_folds = min(_N_FOLDS, len(sites)) if len(sites) > 2 * _N_FOLDS else len(sites)
    for fold in range(n_folds):
        held = data.site.isin(sites[fold::n_folds]).to_numpy()
        said = _fitted(data.where(~held)).sums(data.at[held])[0]
        yield data.where(held), np.clip(said, -MAX_LOG_CORRECTION, MAX_LOG_CORRECTION)


def _fitted(data: _Data) -> Bumps:
    """Bumps with the weights of the correction, and none of the spread yet."""
    weight = data.weight
    rng = np.random.default_rng(_SEED)
    n_bumps = min(data.n_bumps, -(-len(weight) // _ROWS_A_BUMP))
    chosen = rng.choice(len(weight), n_bumps, replace=False, p=weight / weight.sum())
    centres = data.at[chosen].astype(np.float16)
    bumps = Bumps(centres, np.zeros((len(centres), 2), np.float32))

    def bounded(missed: FloatArray) -> FloatArray:
        return np.asarray(weight * np.minimum(1, _OUTLIER / np.maximum(np.abs(missed), 1e-9)))

    found = _ridge(bumps, data.at, data.log_ratio, weight, _AMPLITUDE / data.noise, bounded)
    return Bumps(centres, np.column_stack([found, np.zeros_like(found)]).astype(np.float32))


def _ridge(
    bumps: Bumps,
    at: FloatArray,
    target: FloatArray,
    weight: FloatArray,
    signal: float,
    reweighted: Callable[[FloatArray], FloatArray] | None = None,
) -> FloatArray:
    """Weights of bumps: the mean of a Gaussian process whose amplitude is `signal` times the noise."""
    near = bumps.nearness(at).astype(np.float64)
    among = bumps.nearness(bumps.centres.astype(np.float64)).astype(np.float64)
    prior = among + 1e-4 * np.eye(len(among))
    found: FloatArray = np.zeros(len(among))
    for _ in range(_REWEIGHTINGS if reweighted else 1):
        scaled = near * (signal**2 * weight)[:, None]
        found = np.asarray(np.linalg.solve(near.T @ scaled + prior, scaled.T @ target), np.float64)
        weight = reweighted(target - near @ found) if reweighted else weight
    return found


def _with_spread(correction: Bumps, seen: _Data) -> tuple[Bumps, float]:
    """The bumps with the weights of the spread, and the usual spread."""
    logs = np.log(np.abs(seen.log_ratio) + _LEAST_ERROR)
    usual = float(np.average(logs, weights=seen.weight))
    found = _ridge(correction, seen.at, logs - usual, seen.weight, _SPREAD_AMPLITUDE / _SPREAD_NOISE)
    weights = np.column_stack([correction.weights[:, 0], found]).astype(np.float32)
    return Bumps(correction.centres, weights), float(np.exp(usual))
