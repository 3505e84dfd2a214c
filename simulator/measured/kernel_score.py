"""How well the shipped kernel models do on sites that no fit saw, beside simpler predictors.

Split families are scored with the shipped constants and residuals on their `test` sites; MLA, batched GEMM,
collectives and others of few sites by fits without the site. Scores are kept (`fold_cache`).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from hardware_specs.records.hashing import content_hash
from simulator.costs.estimates import FloatArray
from simulator.measured.fold_cache import kept
from simulator.measured.kernel_baselines import Baseline
from simulator.measured.kernel_calibrate import FittedCase, shipped
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.kernel_errors import Errors
from simulator.measured.kernel_map import sampled
from simulator.measured.kernel_split import Part

_SIMULATOR = Path(__file__).resolve().parents[1]
#: what scores depend on beside rows and constants
_MODELS = (
    "costs/*.py",
    "measured/kernel_*_tables.py",
    *(f"measured/kernel_{name}.py" for name in ("calibrate", "errors", "map", "residual", "split")),
)
_BASELINES = ("measured/kernel_baselines.py", "measured/kernel_*_tables.py")
_MAX_BASELINE_ROWS = 1000
_N_BASELINE_FOLDS = 4


@dataclass(frozen=True)
class Score:
    """Errors on unseen sites, as fractions; `bias` is the median signed error.

    `score` and `band_score` are mean interval scores in log space: of the intervals, and of a constant band
    of the same coverage.
    """

    n: int
    n_sites: int
    median_ape: float
    mape: float
    p90_ape: float
    bias: float
    coverage: float
    half_width: float
    score: float
    band_score: float
    formula_mape: float


@dataclass(frozen=True)
class KernelScore:
    """The score of one kernel on one device; `others` are MAPEs of simpler predictors by name."""

    case: KernelCase
    own: Score
    others: dict[str, float] = field(default_factory=dict)


def score(case: KernelCase, others: dict[str, Baseline] | None = None) -> KernelScore:
    """Errors on test sites, the share of them inside the shipped interval, and those of other predictors.

    Both are kept for the next call, as long as the rows, the shipped constants and the code are the same.
    """
    found = score_of(FittedCase(case, shipped(case)))
    name = content_hash(case.label, _hash_of(case.rows), sorted(others or {}), _code(*_BASELINES))

    def compared() -> dict[str, float]:
        return {name: _mape_of(case, other) for name, other in (others or {}).items()}

    return KernelScore(case, found, kept(f"baselines_{name}", compared))


def score_of(fitted: FittedCase) -> Score:
    """The score of a case with its constants and residual, which a fit keeps while its folds are at hand."""
    case = fitted.case
    name = content_hash(case.label, _hash_of(case.rows), fitted.told(), _code(*_MODELS))

    def made() -> dict[str, float]:
        return asdict(scored(fitted.test, fitted.test_half_width(), fitted.test_of_formula))

    return Score(**kept(f"kernel_{name}", made))


def _hash_of(rows: Rows) -> str:
    return sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest()


@cache
def _code(*names: str) -> str:
    return content_hash(*(path for name in names for path in sorted(_SIMULATOR.glob(name))))


def scored(errors: Errors, half_width: FloatArray | float, formula: Errors) -> Score:
    """The score of errors with their intervals, beside those of the formula alone."""
    size, coverage = errors.absolute, errors.within(half_width)
    band = float(np.quantile(np.abs(errors.log_error), coverage))
    return Score(
        n=len(size),
        n_sites=errors.n_sites,
        median_ape=float(np.median(size)),
        mape=float(size.mean()),
        p90_ape=float(np.quantile(size, 0.9)),
        bias=float(np.median(np.expm1(errors.log_error))),
        coverage=coverage,
        half_width=float(np.median(half_width)),
        score=errors.interval_score(half_width),
        band_score=errors.interval_score(band),
        formula_mape=float(formula.absolute.mean()),
    )


def _mape_of(case: KernelCase, baseline: Baseline) -> float:
    errors = [
        np.abs(baseline(case, known, asked) / asked["latency_s"].to_numpy(np.float64) - 1)
        for known, asked in _known_and_asked(case)
    ]
    return float(np.concatenate(errors).mean())


def _known_and_asked(case: KernelCase) -> Iterator[tuple[Rows, Rows]]:
    """The rows that a predictor may learn from, and those that it is asked for."""
    if case.is_split:
        yield case.fit_rows, sampled(case.part(Part.TEST), _MAX_BASELINE_ROWS)
        return
    sites = case.rows["site"].unique()
    for fold in range(min(len(sites), _N_BASELINE_FOLDS)):
        held = case.rows["site"].isin(sites[fold::_N_BASELINE_FOLDS])
        yield case.rows[~held], sampled(case.rows[held], _MAX_BASELINE_ROWS)
