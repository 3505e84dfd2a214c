"""The accuracy study as one HTML page with charts: error against bits, sparsity and context."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from model_graphs.transforms import pruned_plan
from reports.accuracy_study import (
    CONTEXT,
    FRACTIONS,
    LABEL,
    WEIGHT_BITS,
    Result,
    mean_and_spread,
    scheme_line,
)
from reports.accuracy_study_page import told
from reports.html.charts import COLOURS, fragment
from reports.html.markup import section, table
from reports.html.page import DRAW, style


def render_study(result: Result) -> str:
    """The whole file; it needs no network."""
    sections = (
        section("bits", "Divergence against bits a weight", _bits_chart(result), note=LABEL),
        section("sparsity", "Divergence against pruned weights", _sparsity_chart(result), note=LABEL),
        section("context", "Divergence along the context", _context_chart(result), note=LABEL),
        section("schemes", "All schemes", _scheme_table(result), note=LABEL),
    )
    return study_page("Accuracy of transforms", LABEL, result, sections)


def study_page(title: str, label: str, result: Result, sections: Sequence[str]) -> str:
    """A study on the proxy as one file, with its scripts and what it was made from."""
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - silicast</title>
<style>
{style()}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{escape(label)}; seeds {", ".join(map(str, result["seeds"]))}; corpus {escape(result["corpus"])}</p>
</header>
<main>
{body}
</main>
<script>{get_plotlyjs()}</script>
<script>{DRAW}</script>
</body>
</html>
"""


def _bits_chart(result: Result) -> str:
    lines = [scheme_line(result, name) for name in WEIGHT_BITS]
    figure = _with_errors([line["bits_a_weight"] for line in lines], [line["divergence"] for line in lines])
    figure.update_xaxes(title="stored bits a weight, scales included")
    figure.update_yaxes(title="KL, nats a byte", type="log")
    return fragment(figure, "bits-chart", "", 300)


def _sparsity_chart(result: Result) -> str:
    lines = [scheme_line(result, pruned_plan(one).name) for one in FRACTIONS]
    figure = _with_errors([100 * one for one in FRACTIONS], [line["divergence"] for line in lines])
    figure.update_xaxes(title="% of weights pruned by magnitude")
    figure.update_yaxes(title="KL, nats a byte", type="log")
    return fragment(figure, "sparsity-chart", "", 300)


def _with_errors(x: Sequence[float], by_seed: Sequence[Sequence[float]]) -> go.Figure:
    """Means over seeds with two standard errors either way."""
    told_values = [mean_and_spread(values) for values in by_seed]
    errors = {"type": "data", "array": [2 * error for _, error in told_values]}
    figure = go.Figure()
    figure.add_scatter(
        x=list(x),
        y=[mean for mean, _ in told_values],
        error_y=errors,
        mode="lines+markers",
        line={"color": COLOURS[0]},
    )
    return figure


def _context_chart(result: Result) -> str:
    edges = result["context"]["edges"]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    figure = go.Figure()
    for index, name in enumerate(CONTEXT):
        by_seed = result["context"]["divergence"][name]
        values = [mean_and_spread(column)[0] for column in zip(*by_seed, strict=True)]
        line = {"color": COLOURS[index % len(COLOURS)]}
        figure.add_scatter(x=middles, y=values, mode="lines+markers", name=name, line=line)
    figure.update_xaxes(title="position in the passage, bytes", type="log")
    figure.update_yaxes(title="KL, nats a byte", type="log")
    return fragment(figure, "context-chart", "", 340)


def _scheme_table(result: Result) -> str:
    columns = ("transform", ">bits a weight", ">divergence", ">agreement", ">loss change")
    rows = [
        (
            line["plan"],
            f"{line['bits_a_weight']:.2f}",
            told(line["divergence"], 5),
            told(line["agreement"], 4),
            told(line["loss_change"], 5),
        )
        for line in result["schemes"]
    ]
    return table(columns, rows)
