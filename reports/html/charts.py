"""The report's charts, as plotly figures in one plain style; the page's one script draws them."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from hardware_specs.records.evidence import Estimate
from reports.comparison import Comparison
from reports.load_curve import LoadCurve
from reports.operators import TypicalStep
from simulator.costs.estimates import BOUNDS
from simulator.forecast import MemoryFit

# Okabe and Ito's colours, told apart by most eyes
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C8C8C", "#F0E442")
_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#1b2430"}
_GRID = "#e3e7ec"
_OTHERS = "others"
_OPERATORS = 12  # bars of the operator chart
_COLOUR_OF_BOUND = dict(zip(BOUNDS, COLOURS, strict=False))
Measured = Sequence[tuple[float, float]]


def load_chart(curve: LoadCurve, metric: str, title: str, unit: str, measured: Measured = ()) -> str:
    """One metric against load with its 90% band, and the measured points of the same lengths."""
    found = [(point.load, point.metrics[metric]) for point in curve.points if metric in point.metrics]
    loads = [load for load, _ in found]
    figure = go.Figure()
    edge = {"x": loads, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(y=[e.high for _, e in found], showlegend=False, **edge)
    figure.add_scatter(
        y=[e.low for _, e in found],
        fill="tonexty",
        fillcolor="rgba(0,114,178,.18)",
        name="90% interval",
        **edge,
    )
    values = [e.value for _, e in found]
    figure.add_scatter(x=loads, y=values, mode="lines+markers", line={"color": COLOURS[0]}, name="predicted")
    if measured:
        x, y = zip(*measured, strict=True)
        marker = {"color": COLOURS[3], "size": 9, "symbol": "diamond"}
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name="measured")
    figure.update_xaxes(
        type="log", title=curve.axis, tickvals=loads, ticktext=[f"{load:g}" for load in loads]
    )
    figure.update_yaxes(title=unit, rangemode="tozero")
    return fragment(figure, f"load-{metric}", title, 300)


def breakdown_chart(breakdown: Mapping[str, Mapping[str, float]]) -> str:
    """One bar a step, in shares of its time, part by part; parts below 2% of every step are one."""
    steps = {step: _merged(parts, _large_parts(breakdown)) for step, parts in breakdown.items()}
    figure = go.Figure()
    for index, part in enumerate(dict.fromkeys(part for parts in steps.values() for part in parts)):
        figure.add_bar(
            y=list(steps),
            x=[100 * parts.get(part, 0.0) / sum(parts.values()) for parts in steps.values()],
            name=part,
            orientation="h",
            customdata=[f"{1e3 * parts.get(part, 0.0):.3g} ms" for parts in steps.values()],
            hovertemplate="%{fullData.name}: %{customdata} (%{x:.1f}%)<extra></extra>",
            marker_color=COLOURS[6] if part == _OTHERS else COLOURS[index % len(COLOURS)],
        )
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_xaxes(title="% of the step", range=[0, 100])
    figure.update_yaxes(autorange="reversed")
    return fragment(figure, "breakdown", "", 130 + 55 * len(steps))


def _large_parts(breakdown: Mapping[str, Mapping[str, float]]) -> set[str]:
    steps = breakdown.values()
    return {
        part for parts in steps for part, seconds in parts.items() if seconds >= 0.02 * sum(parts.values())
    }


def _merged(parts: Mapping[str, float], large: set[str]) -> dict[str, float]:
    """The large parts, the longest first, and the sum of the others."""
    kept = {part: parts[part] for part in sorted(parts, key=lambda part: -parts[part]) if part in large}
    return kept | {_OTHERS: sum(parts.values()) - sum(kept.values())}


def operator_chart(step: TypicalStep, name: str) -> str:
    """The longest operators of a step as bars, coloured by what bounds them; the others as one bar."""
    shown, others = step.operators[:_OPERATORS], step.operators[_OPERATORS:]
    bars = [(one.name, one.bound, one.busy_s) for one in shown]
    if others:
        bars.append((f"{len(others)} others", "", sum(one.busy_s for one in others)))
    figure = go.Figure()
    for bound in dict.fromkeys(bound for _, bound, _ in bars):
        own = [(label, 1e3 * seconds) for label, of, seconds in bars if of == bound]
        figure.add_bar(
            y=[label for label, _ in own],
            x=[time_ms for _, time_ms in own],
            name=bound or _OTHERS,
            orientation="h",
            marker_color=_COLOUR_OF_BOUND.get(bound, COLOURS[6]),
            hovertemplate="%{y}: %{x:.4g} ms<extra></extra>",
        )
    order = [label for label, _, _ in bars]
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1], tickfont_size=12)
    figure.update_xaxes(title="ms on one rank, all layers")
    return fragment(figure, name, step.title, 120 + 24 * len(bars))


def memory_chart(fit: MemoryFit) -> str:
    """One bar: what a device's memory holds, up to its capacity."""
    left = fit.usable_bytes - fit.needed_bytes
    kept = fit.capacity_bytes - fit.usable_bytes
    terms = [(term.name, term.needed_bytes) for term in fit.terms]
    terms += [("KV cache", left), ("kept free", kept)]
    colours = [*COLOURS[: len(fit.terms)], COLOURS[4], "#d5dae0"]
    figure = go.Figure()
    for (name, size), colour in zip(terms, colours, strict=True):
        gib = size / 2**30
        figure.add_bar(
            y=["device"],
            x=[gib],
            name=f"{name} {gib:.1f}",
            orientation="h",
            marker_color=colour,
            hovertemplate=f"{name}: %{{x:.2f}} GiB<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="GiB", range=[0, fit.capacity_bytes / 2**30])
    figure.update_yaxes(showticklabels=False)
    return fragment(figure, "memory-bar", "", 170)


def comparison_chart(comparisons: Sequence[Comparison], metric: str) -> str:
    """Predicted against measured on equal axes, with the line of equality and a band of 20% about it."""
    pairs = [
        (one.fact.value, one.predicted, one)
        for one in comparisons
        if one.predicted and one.fact.metric == metric
    ]
    ends = [value for measured, predicted, _ in pairs for value in (measured, predicted.low, predicted.high)]
    low, high = 0.8 * min(ends), 1.25 * max(ends)
    figure = go.Figure()
    edge = {"x": [low, high], "mode": "lines", "hoverinfo": "skip"}
    band = {"width": 0, "color": "#999"}
    figure.add_scatter(y=[1.2 * low, 1.2 * high], line=band, showlegend=False, **edge)
    figure.add_scatter(
        y=[0.8 * low, 0.8 * high],
        line=band,
        fill="tonexty",
        fillcolor="rgba(0,0,0,.07)",
        name="within 20%",
        **edge,
    )
    figure.add_scatter(y=[low, high], line={"color": "#777", "dash": "dot"}, name="equal", **edge)
    figure.add_scatter(
        x=[measured for measured, _, _ in pairs],
        y=[predicted.value for _, predicted, _ in pairs],
        error_y=_error_bars([predicted for _, predicted, _ in pairs]),
        mode="markers",
        marker={"color": COLOURS[3], "size": 9},
        text=[f"{one.point.isl}/{one.point.osl}, {one.point.concurrency} clients" for _, _, one in pairs],
        hovertemplate="%{text}<br>measured %{x:.4g}, predicted %{y:.4g}<extra></extra>",
        name="runs",
    )
    ticks = {"type": "log", "tickvals": _round_values(low, high), "tickformat": ",~r"}
    figure.update_xaxes(title="measured, ms", **ticks)
    figure.update_yaxes(title="predicted, ms", **ticks)
    return fragment(figure, f"compare-{metric}", metric, 340)


def _round_values(low: float, high: float) -> list[float]:
    """The 1, 2, 5 of every decade between the ends, for the ticks of a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        step * 10.0**decade for decade in decades for step in (1, 2, 5) if low <= step * 10.0**decade <= high
    ]


def _error_bars(estimates: Sequence[Estimate]) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [one.high - one.value for one in estimates],
        "arrayminus": [one.value - one.low for one in estimates],
        "thickness": 1.2,
        "color": COLOURS[3],
    }


def fragment(figure: go.Figure, name: str, title: str, height: int) -> str:
    """The figure as data that the page's closing script draws, when every container has its width."""
    figure.update_layout(
        template="none",
        height=height,
        font=_FONT,
        margin={"l": 52, "r": 12, "t": 34, "b": 44},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, automargin=True, title_font_size=12)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, automargin=True, title_font_size=12)
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    data = figure.to_json().replace("</", "<\\/")
    script = f'<script type="application/json" data-chart="{name}">{data}</script>'
    return f'<div class="chart">{heading}<div id="{name}" style="height:{height}px"></div>{script}</div>'
