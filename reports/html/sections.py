"""The sections of the report, each from the simulation to HTML; a section without content is left out."""

from collections.abc import Callable, Iterator

from hardware_specs.records.evidence import Estimate
from reports import rows
from reports.accuracy import AccuracyLine, accuracy_card
from reports.formatting import figure, gib, interval, percent
from reports.html import charts
from reports.html.markup import card, folded, grid, section, table
from reports.indicators import price_hint
from reports.load_curve import LoadCurve
from reports.operators import TypicalStep
from reports.simulation import SimulationReport
from simulator.scenario.model import ClosedLoop

Parts = tuple[str, ...]  # a note, then pieces of HTML; no pieces: no section
_NOTHING: Parts = ("",)
_LOAD_METRICS = (
    ("ttft_ms", "Time to first token", "ms, mean"),
    ("tpot_ms", "Time per output token", "ms, mean"),
    ("output_tok_s_per_gpu", "Throughput", "output tokens/s a GPU"),
)


def all_sections(
    report: SimulationReport, curve: LoadCurve, steps: tuple[TypicalStep, ...]
) -> Iterator[tuple[str, str, str]]:
    """Anchor, title and HTML of every section that has content, in reading order."""
    makers: tuple[tuple[str, str, Callable[[], Parts]], ...] = (
        ("load", "Latency against load", lambda: load(report, curve)),
        ("measured", "Predicted beside measured", lambda: measured(report)),
        ("context", "Long context", lambda: long_context(report)),
        ("step", "Where a step's time goes", lambda: step(report)),
        ("operators", "Operators of a step", lambda: operators(steps)),
        ("memory", "Memory of one device", lambda: memory(report)),
        ("metrics", "All metrics", lambda: metrics(report)),
        ("accuracy", "Accuracy card", accuracy),
        ("assumptions", "Assumptions and sources", lambda: assumptions(report)),
    )
    for anchor, title, make in makers:
        note, *parts = make()
        if parts:
            yield anchor, title, section(anchor, title, *parts, note=note)


def indicators(report: SimulationReport) -> str:
    """The three indicators as cards."""
    return f'<div class="cards">{_first_token(report)}{_stability(report)}{_cost(report)}</div>'


def _first_token(report: SimulationReport) -> str:
    found = report.forecast.metrics
    name = "ttft_median_ms" if "ttft_median_ms" in found else "ttft_ms"
    tail = found.get("ttft_p99_ms")
    lines = [_known(found[name]), f"p99 {figure(tail.value)} ms {interval(tail)}" if tail else ""]
    lines += [str(check) for check in report.objectives]
    statistic = "p50" if name == "ttft_median_ms" else "mean"
    return card(f"Time to first token, {statistic}", figure(found[name].value), "ms", lines)


def _stability(report: SimulationReport) -> str:
    title = "Stability on long context"
    points = [row for row in report.long_context.rows if row.alone.tpot_ratio is not None]
    if not points:
        return card(title, "-", "", ["no request can run alone"])
    first, last = points[0], points[-1]
    lines = [
        f"one request of {last.input_tokens:,} tokens in against one of {first.input_tokens:,}",
        f"time to first token {rows.times(last.alone.ttft_ratio)}",
        f"the cache of a replica holds {last.cache_holds_requests:,} such requests",
    ]
    return card(title, rows.times(last.alone.tpot_ratio), "TPOT", lines)


def _cost(report: SimulationReport) -> str:
    cost = report.cost
    if cost is None:
        return card("Cost of hardware", "-", "", [price_hint(report.forecast.scenario.deployment.system)])
    tokens = cost.usd_per_million_output_tokens
    hourly = (
        f"{cost.gpus} GPUs at {figure(cost.price_usd_per_gpu_hour, 3)} = {figure(cost.usd_per_hour)} USD/h"
    )
    lines = [_known(tokens), hourly, cost.source]
    return card("Cost of hardware", figure(tokens.value), "USD/M output tokens", lines)


def _known(estimate: Estimate) -> str:
    return f"90% interval {interval(estimate)}, grade {estimate.grade.value}"


def load(report: SimulationReport, curve: LoadCurve) -> Parts:
    """A chart a metric, with the runs measured at the scenario's own lengths."""
    if len(curve.points) < 2:
        return _NOTHING
    shown = [entry for entry in _LOAD_METRICS if all(entry[0] in point.metrics for point in curve.points)]
    drawn = (
        charts.load_chart(curve, metric, title, unit, _measured_at_own_lengths(report, metric))
        for metric, title, unit in shown
    )
    columns = (curve.axis, *(f">{title}, {unit}" for _, title, unit in shown))
    lines = [
        (f"{point.load:g}", *(_with_interval(point.metrics[metric]) for metric, _, _ in shown))
        for point in curve.points
    ]
    note = "The scenario at other loads, everything else the same. The band is the 90% interval."
    return note, grid(*drawn), folded("as a table", table(columns, lines))


def _with_interval(estimate: Estimate) -> str:
    return f"{figure(estimate.value)} {interval(estimate)}"


def _measured_at_own_lengths(report: SimulationReport, metric: str) -> list[tuple[float, float]]:
    workload = report.forecast.scenario.workload
    if not isinstance(workload.arrivals, ClosedLoop) or not (
        workload.input_tokens and workload.output_tokens
    ):
        return []
    own = (workload.input_tokens.mean, workload.output_tokens.mean)
    return [
        (one.point.concurrency, one.fact.value)
        for one in report.comparisons
        if one.fact.metric == metric and (one.point.isl, one.point.osl) == own
    ]


def measured(report: SimulationReport) -> Parts:
    """Scatter and table of every figure that the scenario carries."""
    if not report.comparisons:
        return _NOTHING
    names = dict.fromkeys(one.fact.metric for one in report.comparisons if one.predicted)
    drawn = (charts.comparison_chart(report.comparisons, metric) for metric in names)
    lines = table(rows.COMPARISON_COLUMNS, map(rows.comparison_row, report.comparisons))
    sources = sorted({rows.source_of(one) for one in report.comparisons})
    note = f"{rows.comparison_summary(report.comparisons)}. Measured: {'; '.join(sources)}."
    return note, grid(*drawn), folded("every figure", lines)


def long_context(report: SimulationReport) -> Parts:
    """TTFT and TPOT at multiples of the mean input, alone and under the load."""
    context = report.long_context
    note = " ".join([rows.context_note(context), *(f"{reason}." for reason in rows.context_reasons(context))])
    return note, table(rows.CONTEXT_COLUMNS, map(rows.context_row, context.rows))


def step(report: SimulationReport) -> Parts:
    """Shares of a step's time by part, and what binds."""
    breakdown = {
        phase: parts for phase, parts in report.forecast.step_breakdown.items() if sum(parts.values()) > 0
    }
    if not breakdown:
        return _NOTHING
    lines = table(rows.BREAKDOWN_COLUMNS, rows.breakdown_rows(report.forecast))
    note = f"Binding: {report.forecast.binding}."
    return note, charts.breakdown_chart(breakdown), folded("as a table", lines)


def operators(steps: tuple[TypicalStep, ...]) -> Parts:
    """Bars of the longest operators, and all of them as a table."""
    if not steps:
        return _NOTHING
    drawn = (charts.operator_chart(one, f"operators-{index}") for index, one in enumerate(steps))
    columns = ("step", "operator", "bound", ">calls", ">ms", ">share")
    lines = [
        (step.title, one.name, one.bound, str(one.n_calls), *_time_and_share(one.busy_s, step.makespan_s))
        for step in steps
        for one in step.operators
    ]
    note = (
        "Steps like those of the run, operator by operator; the colour says what bounds an operator. "
        "Operators that run beside others (shared experts in small steps) count in full."
    )
    return note, grid(*drawn), folded("every operator", table(columns, lines))


def _time_and_share(busy_s: float, makespan_s: float) -> tuple[str, str]:
    return figure(1e3 * busy_s), percent(busy_s / makespan_s)


def memory(report: SimulationReport) -> Parts:
    """What fills a device, and the cache that is left."""
    fit = report.forecast.memory
    note = f"Capacity {gib(fit.capacity_bytes)} as the driver reports it; usable {gib(fit.usable_bytes)}. "
    note += f"In this run: {rows.cache_use(report.forecast)}."
    return note, charts.memory_chart(fit), table(rows.MEMORY_COLUMNS, rows.memory_rows(fit))


def metrics(report: SimulationReport) -> Parts:
    """Every metric of the forecast."""
    lines = rows.metric_rows(report.forecast, latencies=True)
    return f"Energy and power are those of the GPUs alone. Grades: {rows.GRADES}.", table(
        rows.METRIC_COLUMNS, lines
    )


def accuracy() -> Parts:
    """How far past predictions were from measured runs."""
    shipped = accuracy_card()
    if shipped is None:
        return _NOTHING
    columns = (
        "rows",
        "suite",
        "metric",
        ">asked",
        ">answered",
        ">median",
        ">mean",
        ">p90",
        ">bias",
        ">cover",
    )
    note = (
        f"Errors of silicast {shipped.version} against measured runs, {shipped.date}, in %; cover is the "
        f"share of rows inside the 90% interval. Data {shipped.data_hash}."
    )
    return note, table(columns, map(_accuracy_row, shipped.lines))


def _accuracy_row(line: AccuracyLine) -> rows.Row:
    errors = (line.median, line.mean, line.p90, line.bias, line.coverage)
    counts = (str(line.asked), str(line.answered))
    shown = (f"{value:.1f}" if line.answered else "-" for value in errors)
    return (line.split, line.name, line.metric, *counts, *shown)


def assumptions(report: SimulationReport) -> Parts:
    """The ledger."""
    lines = table(rows.ASSUMPTION_COLUMNS, rows.assumption_rows(report.forecast.assumptions))
    return "Every choice and constant that the numbers rest on.", lines
