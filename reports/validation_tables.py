"""The printed form of a validation: errors by suite and deployment, and the rows that were not answered."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Group

from reports.tables import table
from reports.versions import runtime_versions
from simulator.measured.score import ScoreLine
from simulator.measured.validation import ValidationReport

_PLACE = re.compile(r"[\w.-]+\.csv:(\d+)(?::\d+)?\s+")


def score_table(report: ValidationReport) -> Group:
    """One line a suite and metric, then one a deployment; errors in percent."""
    columns = ("rows", "metric", ">rows", ">median", ">mean", ">p90", ">bias", ">cover", ">half")
    caption = (
        "rows: answered of asked; absolute errors in %, bias signed; cover: % inside the 90% interval; "
        "half: half its width in %\n"
        f"measured data {report.data_hash}"
    )
    return table("Errors", columns, map(_score_row, report.scores), caption=caption, fold_first=True)


def _score_row(line: ScoreLine) -> tuple[str, ...]:
    errors = (line.median, line.mean, line.p90, line.bias, line.coverage, line.half_width)
    return (
        line.name.replace("|", " "),
        line.metric,
        f"{line.answered}/{line.asked}",
        *(_one_decimal(value) for value in errors),
    )


def _one_decimal(value: float) -> str:
    return "-" if value != value else f"{value:.1f}"


def unanswered_table(report: ValidationReport) -> Group:
    """Why figures were not answered: one line a reason, with the lines of the file that have it."""
    counts: Counter[str] = Counter()
    lines: dict[str, set[int]] = defaultdict(set)
    for one in report.predictions:
        if one.predicted is None:
            reason, found = without_places(one.reason)
            counts[reason] += 1
            lines[reason] |= found
    rows = [(str(count), spans(lines[reason]), reason) for reason, count in counts.most_common()]
    nothing = [("0", "", "every figure was answered")]
    return table("Not answered", (">figures", "lines", "reason"), rows or nothing)


def without_places(reason: str) -> tuple[str, set[int]]:
    """The reason without its `file:line` places, and those lines."""
    return _PLACE.sub("", reason), {int(line) for line in _PLACE.findall(reason)}


def spans(lines: Iterable[int]) -> str:
    """Line numbers in order, runs of them as `12-40`."""
    runs: list[list[int]] = []
    for line in sorted(lines):
        if runs and line == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], line]
        else:
            runs.append([line])
    return ", ".join("-".join(map(str, run)) for run in runs)


def validation_json(report: ValidationReport) -> dict[str, object]:
    """Predictions and scores."""
    return {
        "schema_version": 1,
        "predictions": [asdict(prediction) for prediction in report.predictions],
        "scores": [asdict(line) for line in report.scores],
        "data_hash": report.data_hash,
        "versions": runtime_versions(),
    }
