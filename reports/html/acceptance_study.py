"""The acceptance study as one HTML page with charts: acceptance by draft position, tokens a step by depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from reports.acceptance_page import DRAWN, cell, name_of
from reports.acceptance_study import LABEL, line_of, runs_of
from reports.accuracy_study import Result, mean_and_spread
from reports.html.accuracy_study import study_page
from reports.html.charts import COLOURS, fragment
from reports.html.markup import section, table


def render_acceptance(result: Result) -> str:
    """The whole file; it needs no network."""
    sections = (
        section("acceptance", "Acceptance by draft position", _acceptance_chart(result), note=LABEL),
        section("tokens", "Expected tokens a step", _tokens_chart(result), note=LABEL),
        section("runs", "All runs, %", _table(result), note=LABEL),
    )
    return study_page("Acceptance of speculative drafts", LABEL, result, sections)


def _acceptance_chart(result: Result) -> str:
    figure = go.Figure()
    for index, run in enumerate(DRAWN):
        found = [one for one in line_of(result, run)["pooled"]["acceptance"] if one]
        values = [100 * one["value"] for one in found]
        figure.add_scatter(y=values, error_y=_interval(found), **_trace(index, name_of(run), len(found)))
    figure.update_xaxes(title="draft position", dtick=1)
    figure.update_yaxes(title="% accepted where judged")
    return fragment(figure, "acceptance-chart", "", 340)


def _interval(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    up = [100 * (one["high"] - one["value"]) for one in found]
    down = [100 * (one["value"] - one["low"]) for one in found]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down}


def _tokens_chart(result: Result) -> str:
    figure = go.Figure()
    for index, run in enumerate(DRAWN):
        line = line_of(result, run)
        columns = zip(*(one["tokens_a_step"] for one in line["by_seed"]), strict=True)
        errors = {"type": "data", "array": [2 * mean_and_spread(column)[1] for column in columns]}
        values = line["pooled"]["tokens_a_step"]
        figure.add_scatter(y=values, error_y=errors, **_trace(index, name_of(run), len(values)))
    figure.update_xaxes(title="depth, drafts a step", dtick=1)
    figure.update_yaxes(title="tokens a step, two standard errors over seeds")
    return fragment(figure, "tokens-chart", "", 340)


def _trace(index: int, name: str, n: int) -> dict[str, Any]:
    """Look of a line over 1 to n."""
    return {
        "x": list(range(1, n + 1)),
        "name": name,
        "mode": "lines+markers",
        "line": {"color": COLOURS[index]},
    }


def _table(result: Result) -> str:
    columns = ("run", *(f">draft {k}" for k in range(1, result["depth"] + 1)))
    runs = [(name_of(run), line_of(result, run)["pooled"]) for run in runs_of(result)]
    rows = [(name, *map(cell, pooled["acceptance"])) for name, pooled in runs]
    return table(columns, rows)
