"""Printed form of the acceptance study."""

from collections.abc import Iterator

from rich.console import Group

from reports.acceptance_page import name_of
from reports.acceptance_study import LABEL, line_of, runs_of
from reports.accuracy_study import Result
from reports.tables import table


def acceptance_tables(result: Result) -> Iterator[Group]:
    """Acceptance by draft position with intervals, and expected tokens a step."""
    positions = range(1, result["depth"] + 1)
    lines = {run: line_of(result, run)["pooled"] for run in runs_of(result)}
    rows = [(name_of(run), *map(_percent, one["acceptance"])) for run, one in lines.items()]
    caption = f"{result['confidence']:.0%} Wilson intervals of all seeds together"
    columns = ("run", *(f">draft {k}, %" for k in positions))
    yield table(f"Acceptance of drafts ({LABEL})", columns, rows, caption=caption, fold_first=True)
    rows = [
        (name_of(run), *(f"{tokens:.2f}" for tokens in one["tokens_a_step"])) for run, one in lines.items()
    ]
    yield table("Expected tokens a step", ("run", *(f">depth {k}" for k in positions)), rows, fold_first=True)


def _percent(found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:.1f}\n{low:.1f}-{high:.1f}"
