"""The printed form of a simulation: the three indicators, then what was measured, then everything else."""

from collections.abc import Iterator

from rich.console import Group, RenderableType

from hardware_specs.records.evidence import Estimate
from reports import rows
from reports.accuracy import accuracy_line
from reports.comparison import Comparison
from reports.formatting import figure, gib, interval
from reports.indicators import HardwareCost, price_hint
from reports.simulation import SimulationReport
from reports.tables import definition, table
from simulator.forecast import Forecast, MemoryFit


def simulation_tables(report: SimulationReport) -> Iterator[RenderableType]:
    """Everything in the order in which it is read."""
    forecast = report.forecast
    scenario = forecast.scenario
    yield definition(
        scenario.name,
        [
            *rows.approximation(scenario.deployment),
            ("deployment", rows.describe_deployment(scenario)),
            ("", rows.describe_engine(scenario)),
            ("workload", rows.describe_load(scenario)),
        ],
    )
    yield indicator_table(report)
    yield long_context_table(report)
    if report.comparisons:
        yield comparison_table(report.comparisons)
    if report.objectives:
        yield definition("Objectives", [("", str(check)) for check in report.objectives])
    yield from _metric_tables(forecast)
    yield memory_table(forecast.memory, rows.cache_use(forecast))
    caption = f"binding: {forecast.binding}"
    yield table("Step", rows.BREAKDOWN_COLUMNS, rows.breakdown_rows(forecast), caption=caption)
    yield table("Assumptions", rows.ASSUMPTION_COLUMNS, rows.assumption_rows(forecast.assumptions))
    yield definition("", _closing_lines(forecast))


def indicator_table(report: SimulationReport) -> Group:
    """The three indicators."""
    metrics = report.forecast.metrics
    names = {"time to first token (p50)": "ttft_median_ms", "time to first token (p99)": "ttft_p99_ms"}
    if "ttft_median_ms" not in metrics:
        names = {"time to first token (mean)": "ttft_ms"}
    shown: rows.Rows = [
        (title, *_cells(metrics[name], "ms")) for title, name in names.items() if name in metrics
    ]
    shown.append(("stability on long context", *_stability(report)))
    shown += _cost_rows(report.cost, report.forecast.scenario.deployment.system)
    return table("Indicators", ("indicator", ">value", ">90% interval", "grade", ""), shown)


def _stability(report: SimulationReport) -> tuple[str, str, str, str]:
    points = [row for row in report.long_context.rows if row.alone.tpot_ratio is not None]
    if not points:
        return "-", "", "", "no request can run alone"
    first, last = points[0], points[-1]
    grade = last.alone.tpot.grade.value if last.alone.tpot else ""
    text = f"TPOT at {last.input_tokens:,} tokens in against {first.input_tokens:,}"
    return rows.times(last.alone.tpot_ratio), "", grade, text


def _cost_rows(cost: HardwareCost | None, system: str) -> rows.Rows:
    if cost is None:
        return [("cost of hardware", "-", "", "", price_hint(system))]
    source = cost.source or "no source given"
    price = f"USD/h: {cost.gpus} GPUs at {figure(cost.price_usd_per_gpu_hour, 3)} USD/h ({source})"
    return [
        ("cost of hardware", *_cells(cost.usd_per_million_output_tokens, "USD/M output tokens")),
        ("", figure(cost.usd_per_hour), "", "", price),
    ]


def _cells(estimate: Estimate, unit: str) -> tuple[str, str, str, str]:
    return figure(estimate.value), interval(estimate), estimate.grade.value, unit


def long_context_table(report: SimulationReport) -> Group:
    """TTFT and TPOT at multiples of the mean input, alone and under the load, as ratios to the mean."""
    context = report.long_context
    caption = "\n".join([*rows.context_reasons(context), rows.context_note(context)])
    return table("Long context", rows.CONTEXT_COLUMNS, map(rows.context_row, context.rows), caption=caption)


def comparison_table(comparisons: tuple[Comparison, ...]) -> Group:
    """Predicted beside measured, with the errors' summary and the sources below."""
    sources = "; ".join(sorted({rows.source_of(one) for one in comparisons}))
    caption = f"{rows.comparison_summary(comparisons)}\nmeasured: {sources}"
    shown = map(rows.comparison_row, comparisons)
    return table("Predicted beside measured", rows.COMPARISON_COLUMNS, shown, caption=caption)


def _metric_tables(forecast: Forecast) -> Iterator[Group]:
    caption = "mean and percentiles of the simulated requests, and the 90% intervals of mean and p99"
    yield table("Latency", rows.LATENCY_COLUMNS, rows.latency_rows(forecast), caption=caption)
    other = rows.metric_rows(forecast, latencies=False)
    yield table("Throughput, energy (GPUs only) and cost", rows.METRIC_COLUMNS, other)


def memory_table(fit: MemoryFit, use: str = "") -> Group:
    """The memory of one device, and how full the cache became where something ran."""
    capacity = f"capacity {gib(fit.capacity_bytes)} as the driver reports it"
    caption = f"{capacity}; {use}" if use else capacity
    return table("Memory of one device", rows.MEMORY_COLUMNS, rows.memory_rows(fit), caption=caption)


def _closing_lines(forecast: Forecast) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {text}" for name, text in forecast.versions.items())
    return [
        ("grades", rows.GRADES),
        ("accuracy", accuracy_line()),
        ("input hash", forecast.input_hash),
        ("versions", versions),
    ]
