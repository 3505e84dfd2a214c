"""From a scenario to a forecast: the same arrivals served under three clocks, every metric with its interval.

The middle clock gives the values. The slow and the fast clock are the 90% quantiles of the error that steps
of this stack share; a metric's interval is the wider of what they move it by and of what unseen runs of the
stack earned.
"""

from collections.abc import Callable, Mapping
from math import exp

from hardware_specs.records.errors import InfeasibleError
from hardware_specs.records.evidence import Estimate, Grade, worst
from hardware_specs.records.hashing import content_hash
from model_graphs.runs.records import ServingRun
from simulator.economics import cost_metrics
from simulator.energy import serving_energy
from simulator.forecast import Assumption, Forecast
from simulator.ledger import assumptions_of, versions
from simulator.prepared import Prepared, prepare
from simulator.scenario.model import Scenario
from simulator.serving.metrics import serving_metrics, unit_of
from simulator.serving.workload import Requests, generate
from simulator.step_breakdown import mean_decode_breakdown

Progress = Callable[[int, int], None]

_RUNS = ("expected", "fast", "slow")
_NEAR_SATURATION = 0.95  # share of the makespan that engines are busy


def forecast(scenario: Scenario, *, progress: Progress | None = None) -> Forecast:
    """The forecast of a scenario.

    Raises:
        InputError: a name, width or dtype of the deployment is wrong.
        InfeasibleError: the model does not fit the memory of its devices, or a request can never run.
    """
    prepared = prepare(scenario.deployment)
    runs = _three_runs(prepared, scenario, progress)
    grade = worst(prepared.stack.grade, prepared.components.grade, prepared.model.grade)
    metrics = _estimates(prepared, runs, grade)
    metrics |= serving_energy(prepared, runs["expected"], grade)
    metrics |= cost_metrics(scenario, metrics, grade)
    return Forecast(
        scenario=scenario,
        metrics=dict(sorted(metrics.items())),
        memory=prepared.memory,
        run=runs["expected"],
        binding=binding_resource(prepared, runs["expected"]),
        step_breakdown={"mean decode step": mean_decode_breakdown(prepared, runs["expected"])},
        assumptions=(*assumptions_of(prepared, scenario), _width_assumption(prepared)),
        input_hash=input_hash(prepared, scenario),
        versions=versions(),
    )


def input_hash(prepared: Prepared, scenario: Scenario) -> str:
    """Hash of everything that the forecast depends on: scenario, system, model, stack."""
    return content_hash(
        scenario.model_dump(mode="json"),
        prepared.system.content_hash,
        prepared.model.content_hash,
        prepared.stack.content_hash,
        prepared.calibration_hash,
    )


def _three_runs(prepared: Prepared, scenario: Scenario, progress: Progress | None) -> dict[str, ServingRun]:
    """The same arrivals under the expected, the fast and the slow clock."""
    requests = generate(scenario.workload)
    check_context(prepared, requests)
    constants = prepared.stack.constants.plain()
    table = prepared.table(constants)
    width = prepared.tpot_log_half_width
    runs: dict[str, ServingRun] = {}
    for i, (name, factor) in enumerate(zip(_RUNS, (1.0, exp(-width), exp(width)), strict=True)):
        clock = table if factor == 1.0 else table.scaled(factor)
        runs[name] = prepared.serve(constants, clock, requests, scenario.workload.seed)
        if progress is not None:
            progress(i + 1, len(_RUNS))
    return runs


def check_context(prepared: Prepared, requests: Requests) -> None:
    """Refuse a workload with a request that is longer than the model's context.

    Raises:
        InfeasibleError: says how long, and the limit.
    """
    longest = int((requests.input_tokens + requests.output_tokens).max())
    limit = prepared.model.blueprint.max_positions
    if longest > limit:
        raise InfeasibleError(
            f"a request of {longest:,} tokens is longer than the context of {prepared.model.key}, "
            f"{limit:,} tokens"
        )


def _estimates(prepared: Prepared, runs: Mapping[str, ServingRun], grade: Grade) -> dict[str, Estimate]:
    n_gpus = prepared.deployment.gpus
    values = {name: serving_metrics(run, n_gpus) for name, run in runs.items()}
    return {
        metric: _estimate(metric, value, values["fast"][metric], values["slow"][metric], prepared, grade)
        for metric, value in values["expected"].items()
    }


def _estimate(
    metric: str, value: float, fast: float, slow: float, prepared: Prepared, grade: Grade
) -> Estimate:
    """The interval that holds what the clocks do to the metric and what unseen runs of the stack earned."""
    if "tok_s" in metric or metric.startswith("samples"):
        # arrivals may set a throughput whatever the clock; a hundredth is left for a longer run
        return Estimate(
            value, 0.99 * min(value, fast, slow), 1.01 * max(value, fast, slow), unit_of(metric), grade
        )
    earned = prepared.ttft_log_half_width if metric.startswith("ttft") else prepared.tpot_log_half_width
    low, high = value * exp(-earned), value * exp(earned)
    return Estimate(value, min(low, fast, slow), max(high, fast, slow), unit_of(metric), grade)


def binding_resource(prepared: Prepared, run: ServingRun) -> str:
    """What keeps the run from being faster, in words."""
    counters, requests = run.counters, run.requests
    capacity = prepared.memory.kv_capacity_tokens
    if counters["kv_peak_tokens"] > 0.9 * capacity:
        return (
            f"KV cache: {counters['kv_peak_tokens']:,.0f} of {capacity:,} tokens of a rank in use at the peak"
        )
    busy = counters["busy_s"] / (run.makespan_s * prepared.deployment.replicas)
    if busy < _NEAR_SATURATION:
        return f"arrivals: engines are busy {busy:.0%} of the time"
    if float(requests.queue_s.mean()) > float(requests.ttft_s.mean()) / 2:
        return "prefill: most of the time to first token is spent waiting for a step"
    return f"step time: {_largest_share(prepared, run)}"


def _largest_share(prepared: Prepared, run: ServingRun) -> str:
    breakdown = mean_decode_breakdown(prepared, run)
    name, seconds = max(breakdown.items(), key=lambda item: item[1])
    return f"{name} takes {seconds / sum(breakdown.values()):.0%} of a decode step"


def _width_assumption(prepared: Prepared) -> Assumption:
    width = prepared.tpot_log_half_width
    value = f"clock at x{exp(-width):.2f} and x{exp(width):.2f}"
    return Assumption("interval", value, prepared.stack.constants.tpot_log_half_width.source, "fitted")
