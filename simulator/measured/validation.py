"""Predictions held against measured rows: every metric asked, answered or with the reason why not."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem, SilicastError
from hardware_specs.records.hashing import content_hash
from simulator.measured.bounds import weight_read_bound_ms
from simulator.measured.figure_rows import REQUIRED as FIGURE_COLUMNS
from simulator.measured.figure_rows import read_figures_file
from simulator.measured.rows import MeasuredRow, UnansweredRow
from simulator.measured.score import Prediction, ScoreLine, score
from simulator.measured.serving_rows import REQUIRED as SERVING_COLUMNS
from simulator.measured.serving_rows import read_serving_file
from simulator.predict import forecast

PREDICTION_COLUMNS = ("id", "metric", "measured", "predicted", "low", "high", "grade", "reason")
BEYOND_BOUND = "measured faster than the weight-read bound"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ValidationReport:
    """Predictions in the file's order, score lines, and the hash of the measured file."""

    predictions: tuple[Prediction, ...]
    scores: tuple[ScoreLine, ...]
    data_hash: str


def validate_measured(path: Path, progress: Progress | None = None) -> ValidationReport:
    """Every row of a measured file answered.

    Raises:
        InputError: the file is missing or in none of the schemas that are read.
    """
    rows, unanswered = read_measured(path)
    predictions = [*predict_rows(rows, progress), *(p for row in unanswered for p in _refused(row))]
    return ValidationReport(tuple(predictions), score_table(predictions), content_hash(path))


def read_measured(path: Path) -> tuple[list[MeasuredRow], list[UnansweredRow]]:
    """Rows of a file whose schema is recognised by its columns.

    Raises:
        InputError: the file is missing or in none of the schemas that are read.
    """
    if not path.is_file():
        raise InputError(Problem("measured file must exist", file=str(path)))
    with path.open(newline="", encoding="utf-8") as handle:
        header = set(next(csv.reader(handle), []))
    if header >= FIGURE_COLUMNS:
        return read_figures_file(path)
    if header >= SERVING_COLUMNS:
        return read_serving_file(path)
    closest = min((SERVING_COLUMNS, FIGURE_COLUMNS), key=lambda columns: len(columns - header))
    missing = ", ".join(sorted(closest - header))
    raise InputError(
        Problem(
            f"columns must be those of a serving or a figures file; missing {missing}",
            file=str(path),
            line=1,
            column=1,
        )
    )


def predict_rows(rows: Sequence[MeasuredRow], progress: Progress | None = None) -> Iterable[Prediction]:
    """Predictions of every figure of every row; rows of one scenario are simulated once."""
    cache: dict[str, object] = {}
    for i, row in enumerate(rows):
        key = row.scenario.model_copy(update={"name": ""}).model_dump_json()
        if key not in cache:
            try:
                cache[key] = forecast(row.scenario).metrics
            except SilicastError as error:
                cache[key] = error
        yield from _answers(row, cache[key])
        if progress is not None:
            progress(i + 1, len(rows))


def _answers(row: MeasuredRow, outcome: object) -> Iterable[Prediction]:
    for metric, measured in row.figures.items():
        if isinstance(outcome, SilicastError):
            yield _prediction(row, metric, measured, str(outcome))
        elif isinstance(outcome, dict) and metric in outcome:
            estimate = outcome[metric]
            yield Prediction(
                id=row.id,
                metric=metric,
                measured=measured,
                predicted=estimate.value,
                low=estimate.low,
                high=estimate.high,
                grade=str(estimate.grade),
                reason="; ".join((*row.assumptions, *_beyond_bound(row, metric, measured))),
                suite=row.suite,
                group=row.deployment_key,
            )
        else:
            yield _prediction(row, metric, measured, f"metric {metric} is not predicted for this scenario")


def _beyond_bound(row: MeasuredRow, metric: str, measured: float) -> Iterable[str]:
    bound = weight_read_bound_ms(row.scenario) if metric == "tpot_ms" else None
    if bound is not None and measured < bound:
        yield f"{BEYOND_BOUND} of {bound:.2f} ms: speculation, or a record that leaves something out"


def _prediction(row: MeasuredRow, metric: str, measured: float, reason: str) -> Prediction:
    return Prediction(row.id, metric, measured, None, None, None, "", reason, row.suite, row.deployment_key)


def _refused(row: UnansweredRow) -> Iterable[Prediction]:
    for metric in row.metrics:
        yield Prediction(row.id, metric, None, None, None, None, "", row.reason)


def score_table(predictions: Sequence[Prediction]) -> tuple[ScoreLine, ...]:
    """One line a suite and metric, then one a deployment and metric, over rows that name a scenario."""
    lines: list[ScoreLine] = []
    for key in ("suite", "group"):
        names = dict.fromkeys((getattr(p, key), p.metric) for p in predictions if getattr(p, key))
        for name, metric in names:
            chosen = [p for p in predictions if getattr(p, key) == name and p.metric == metric]
            lines.append(score(name, metric, chosen))
    return tuple(lines)
