"""How a score is counted: absolute percentage errors, bias, coverage of the 90% interval, and its width."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hardware_specs.records.errors import InputError, Problem


@dataclass(frozen=True)
class Prediction:
    """One metric of one row. `predicted` is None where the row is not answered; `reason` then says why."""

    id: str
    metric: str
    measured: float | None
    predicted: float | None
    low: float | None
    high: float | None
    grade: str
    reason: str
    suite: str = ""
    group: str = ""


@dataclass(frozen=True)
class ScoreLine:
    """Scores of one group of rows and one metric, percentages. Unanswered rows count as asked."""

    name: str
    metric: str
    asked: int
    answered: int
    median: float
    mean: float
    p90: float
    bias: float
    coverage: float
    half_width: float


def score(name: str, metric: str, predictions: Sequence[Prediction]) -> ScoreLine:
    """The score of these predictions of one metric.

    Raises:
        InputError: there is nothing to score.
    """
    if not predictions:
        raise InputError(Problem("at least one row is needed to score", name, path=metric))
    answered = [p for p in predictions if p.predicted is not None and p.measured]
    if not answered:
        nan = float("nan")
        return ScoreLine(name, metric, len(predictions), 0, nan, nan, nan, nan, nan, nan)
    measured = np.array([p.measured for p in answered], float)
    predicted = np.array([p.predicted for p in answered], float)
    low = np.array([p.low for p in answered], float)
    high = np.array([p.high for p in answered], float)
    error = 100 * np.abs(predicted / measured - 1)
    return ScoreLine(
        name=name,
        metric=metric,
        asked=len(predictions),
        answered=len(answered),
        median=float(np.median(error)),
        mean=float(error.mean()),
        p90=float(np.percentile(error, 90)),
        bias=float(100 * np.median(predicted / measured - 1)),
        coverage=float(100 * np.mean((low <= measured) & (measured <= high))),
        half_width=float(100 * np.median((high - low) / (2 * predicted))),
    )
