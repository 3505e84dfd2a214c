"""The printed form of a validation: errors by suite and deployment, and the rows that were not answered."""

from collections import Counter
from dataclasses import asdict

from rich.table import Table

from reports.tables import table
from reports.versions import runtime_versions
from simulator.measured.score import ScoreLine
from simulator.measured.validation import ValidationReport


def score_table(report: ValidationReport) -> Table:
    """One line a suite and metric, then one a deployment; errors in percent."""
    columns = (
        "rows",
        "metric",
        ">asked",
        ">answered",
        ">median",
        ">mean",
        ">p90",
        ">bias",
        ">cover",
        ">half width",
    )
    caption = (
        "absolute errors in %, bias signed; cover: % of rows inside the 90% interval, with its half width\n"
        f"measured data {report.data_hash}"
    )
    return table("Errors", columns, map(_score_row, report.scores), caption=caption)


def _score_row(line: ScoreLine) -> tuple[str, ...]:
    errors = (line.median, line.mean, line.p90, line.bias, line.coverage, line.half_width)
    return (
        line.name,
        line.metric,
        str(line.asked),
        str(line.answered),
        *(_one_decimal(value) for value in errors),
    )


def _one_decimal(value: float) -> str:
    return "-" if value != value else f"{value:.1f}"


def unanswered_table(report: ValidationReport) -> Table:
    """Why rows were not answered, by reason; a reason that names a line stands alone."""
    counts = Counter(one.reason for one in report.predictions if one.predicted is None)
    rows = [(str(count), reason) for reason, count in counts.most_common()]
    return table("Not answered", (">figures", "reason"), rows or [("0", "every figure was answered")])


def validation_json(report: ValidationReport) -> dict[str, object]:
    """Predictions and scores."""
    return {
        "schema_version": 1,
        "predictions": [asdict(prediction) for prediction in report.predictions],
        "scores": [asdict(line) for line in report.scores],
        "data_hash": report.data_hash,
        "versions": runtime_versions(),
    }
