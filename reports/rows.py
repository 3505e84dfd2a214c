"""What a simulation shows, as rows of text: the printed tables and the HTML report are two layouts of these.

A column heading that starts with `>` holds numbers.
"""

from collections.abc import Sequence
from statistics import median

from hardware_specs.records.evidence import Estimate
from model_graphs.configs import resolve_model
from reports.comparison import Comparison
from reports.formatting import figure, gib, interval, percent, signed_percent
from reports.indicators import ContextRow, LongContext
from simulator.forecast import Assumption, Forecast, MemoryFit
from simulator.scenario.model import ClosedLoop, Deployment, Poisson, Scenario, TraceReplay

Row = tuple[str, ...]
Rows = list[Row]

GRADES = "A measured here, B calibrated on this device, C transferred or assumed, D datasheet only"
#: heading -> suffix of the metric's name
STATISTICS = {"mean": "", "p50": "_median", "p90": "_p90", "p99": "_p99"}
LATENCIES = {"TTFT": "ttft", "TPOT": "tpot", "ITL": "itl", "E2E": "e2e"}


def describe_deployment(scenario: Scenario) -> str:
    """Model, devices and widths in words."""
    one = scenario.deployment
    widths = f"tp {one.tp}, dp {one.dp}, ep {one.ep}, pp {one.pp}"
    replicas = f"{one.replicas} replica{'s' if one.replicas > 1 else ''} of {one.gpus_per_replica}"
    return f"{one.model} on {one.gpus} x {one.system} = {replicas} ({widths})"


def approximation(deployment: Deployment) -> list[tuple[str, str]]:
    """What was assumed to read an unknown architecture as a known one; nothing for a known one."""
    if not deployment.approximate:
        return []
    record = resolve_model(deployment.model, approximate=True)
    return [("approximate", note) for note in record.notes] if record.approximates else []


def describe_engine(scenario: Scenario) -> str:
    """Stack and number formats in words."""
    one = scenario.deployment
    return f"{one.stack} {one.stack_version or '(newest)'}, weights {one.precision}, KV cache {one.kv_dtype}"


def describe_load(scenario: Scenario) -> str:
    """Clients and lengths in words."""
    workload = scenario.workload
    arrivals = workload.arrivals
    if isinstance(arrivals, TraceReplay):
        return f"trace {arrivals.path}"
    if isinstance(arrivals, ClosedLoop):
        who = f"{arrivals.concurrency} clients in a closed loop"
    elif isinstance(arrivals, Poisson):
        who = f"Poisson arrivals at {arrivals.rate_per_s:g} requests/s"
    else:
        who = f"{arrivals.requests} requests at once"
    lengths = (workload.input_tokens, workload.output_tokens)
    shown = " -> ".join(f"{one.mean:,} ({one.law})" for one in lengths if one)
    return f"{who}, tokens {shown}, seed {workload.seed}"


LATENCY_COLUMNS = ("ms", *(f">{name}" for name in STATISTICS), ">90% of mean", ">90% of p99", "grade")


def latency_rows(forecast: Forecast) -> Rows:
    """Latencies in ms by statistic, with the intervals of mean and p99."""
    rows: Rows = []
    for title, name in LATENCIES.items():
        found = [forecast.metrics.get(f"{name}{suffix}_ms") for suffix in STATISTICS.values()]
        mean, tail = found[0], found[-1]
        if mean is not None:
            cells = (figure(one.value) if one else "-" for one in found)
            rows.append((title, *cells, interval(mean), interval(tail) if tail else "-", mean.grade.value))
    return rows


METRIC_COLUMNS = ("metric", ">value", ">90% interval", "unit", "grade")


def metric_rows(forecast: Forecast, *, latencies: bool) -> Rows:
    """Every metric, or all but the latencies, which have a table of their own."""
    return [
        (name, figure(one.value), interval(one), one.unit, one.grade.value)
        for name, one in forecast.metrics.items()
        if latencies or name.split("_")[0] not in LATENCIES.values()
    ]


COMPARISON_COLUMNS = (
    "in/out",
    ">clients",
    "metric",
    ">measured",
    ">predicted",
    ">90% interval",
    ">error",
    "grade",
)


def comparison_row(one: Comparison) -> Row:
    """A measured figure and its prediction."""
    return (
        f"{one.point.isl}/{one.point.osl}",
        str(one.point.concurrency),
        one.fact.metric + " (in calibration)" * one.fact.in_calibration,
        figure(one.fact.value),
        figure(one.predicted.value) if one.predicted else "-",
        interval(one.predicted) if one.predicted else "",
        signed_percent(one.error),
        one.predicted.grade.value if one.predicted else "",
    )


def source_of(one: Comparison) -> str:
    """Where a measured figure was published, and what must be known about it."""
    fact = one.fact
    parts = (fact.source, fact.version, str(fact.measured_on or ""), fact.note)
    return ", ".join(part for part in parts if part)


def comparison_summary(comparisons: tuple[Comparison, ...]) -> str:
    """Median absolute error of each metric, and how many figures lie in the predicted interval."""
    lines: list[str] = []
    for metric in sorted({one.fact.metric for one in comparisons}):
        errors = [abs(one.error) for one in comparisons if one.fact.metric == metric and one.predicted]
        if errors:
            lines.append(f"{metric}: median error {percent(median(errors))} of {len(errors)}")
    inside = sum(one.inside for one in comparisons)
    return "; ".join([*lines, f"{inside} of {len(comparisons)} inside the interval"])


CONTEXT_COLUMNS = (
    "input tokens",
    ">TTFT\nalone",
    ">ratio",
    ">TPOT\nalone",
    ">ratio",
    ">TTFT\nloaded",
    ">TPOT\nloaded",
    ">cache\nholds",
)


def context_row(row: ContextRow) -> Row:
    """One multiple of the mean input: ms and ratios alone, ratios under the load, requests in the cache."""
    name, alone, loaded = f"x{row.factor} = {row.input_tokens:,}", row.alone, row.loaded
    return (
        name,
        *_value_and_ratio(alone.ttft, alone.ttft_ratio),
        *_value_and_ratio(alone.tpot, alone.tpot_ratio),
        times(loaded.ttft_ratio if loaded else None),
        times(loaded.tpot_ratio if loaded else None),
        f"{row.cache_holds_requests:,}",
    )


def context_reasons(context: LongContext) -> list[str]:
    """Why a cell of the long-context table is empty, one line each."""
    points = [
        (row, name, point)
        for row in context.rows
        for name, point in (("alone", row.alone), ("loaded", row.loaded))
    ]
    return [f"x{row.factor} {name}: {point.reason}" for row, name, point in points if point and point.reason]


def context_note(context: LongContext) -> str:
    """How the long-context table is read."""
    return (
        f"TTFT and TPOT in ms. Ratios to {context.mean_input_tokens:,} tokens in and "
        f"{context.mean_output_tokens:,} out. Alone: one request at a time; loaded: the scenario's own load "
        f"with longer inputs, queueing included. Cache holds: such requests in one replica. The model's "
        f"limit is {context.limit_tokens:,} tokens."
    )


def _value_and_ratio(estimate: Estimate | None, ratio: float | None) -> tuple[str, str]:
    return figure(estimate.value) if estimate else "-", times(ratio)


def times(ratio: float | None) -> str:
    """A ratio as a multiple."""
    return "-" if ratio is None else f"x{figure(ratio, 3)}"


MEMORY_COLUMNS = ("term", ">size", ">share", "note")


def memory_rows(fit: MemoryFit) -> Rows:
    """The memory of one device, term by term, and the cache that is left."""
    left, kept = fit.usable_bytes - fit.needed_bytes, fit.capacity_bytes - fit.usable_bytes
    tokens = f"{fit.kv_capacity_tokens:,} tokens of {fit.kv_bytes_per_token:,.0f} bytes"
    terms = [(term.name, term.needed_bytes, term.note) for term in fit.terms]
    terms += [("KV cache", left, tokens), ("kept free", kept, "outside the stack's memory fraction")]
    return [(name, gib(size), percent(size / fit.capacity_bytes), note) for name, size, note in terms]


def cache_use(forecast: Forecast) -> str:
    """The fullest that the cache of a rank became."""
    peak, capacity = forecast.run.counters.get("kv_peak_tokens"), forecast.memory.kv_capacity_tokens
    if peak is None or not capacity:
        return "peak use of the KV cache not counted"
    return f"KV cache at most {percent(peak / capacity)} full ({peak:,.0f} tokens)"


BREAKDOWN_COLUMNS = ("step", "part", ">ms", ">share")


def breakdown_rows(forecast: Forecast) -> Rows:
    """Where a step's time goes, largest part first."""
    return [
        (phase, part, figure(seconds * 1e3), percent(seconds / sum(parts.values())))
        for phase, parts in forecast.step_breakdown.items()
        for part, seconds in sorted(parts.items(), key=lambda item: -item[1])
    ]


ASSUMPTION_COLUMNS = ("kind", "what", "source")


def assumption_rows(assumptions: Sequence[Assumption]) -> Rows:
    """The ledger: every choice and constant the numbers rest on, those of one source together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in assumptions:
        groups.setdefault((one.kind, one.source), []).append(f"{one.what}: {one.value}")
    return [(kind, "\n".join(dict.fromkeys(lines)), source) for (kind, source), lines in groups.items()]
