"""The indicators that head every report: time to first token, stability on long context, cost of hardware.

Long context is asked of the same deployment twice: one request alone (what the machine does) and the whole
load with longer inputs (what a user would see, queueing and a full cache included).
"""

from collections.abc import Callable
from dataclasses import dataclass

from hardware_specs.library import load_prices, load_system
from hardware_specs.records.errors import SilicastError
from hardware_specs.records.evidence import Estimate
from model_graphs.configs import resolve_model
from simulator.forecast import Forecast
from simulator.scenario.model import ClosedLoop, Lengths, Scenario, Workload

Forecaster = Callable[[Scenario], Forecast]
FACTORS = (1, 4, 16, 64)


@dataclass(frozen=True)
class ContextPoint:
    """TTFT and TPOT in ms at one input length, and ratios to the mean's; or the reason for having none."""

    ttft: Estimate | None = None
    tpot: Estimate | None = None
    ttft_ratio: float | None = None
    tpot_ratio: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class ContextRow:
    """One multiple of the mean input, and how many such requests the KV cache of one replica holds."""

    factor: int
    input_tokens: int
    alone: ContextPoint
    loaded: ContextPoint | None
    cache_holds_requests: int


@dataclass(frozen=True)
class LongContext:
    """Rows up to the model's limit; `limit_tokens` is what a request's input and output may hold together."""

    rows: tuple[ContextRow, ...]
    limit_tokens: int
    mean_input_tokens: int
    mean_output_tokens: int


@dataclass(frozen=True)
class HardwareCost:
    """What the devices cost at a stated price, and what that makes of a million tokens."""

    price_usd_per_gpu_hour: float
    source: str
    gpus: int
    usd_per_hour: float
    usd_per_million_output_tokens: Estimate
    usd_per_million_total_tokens: Estimate


def long_context(base: Forecast, forecast: Forecaster) -> LongContext:
    """How TTFT and TPOT grow at 4, 16 and 64 times the mean input, up to the model's limit."""
    deployment = base.scenario.deployment
    limit = resolve_model(deployment.model, approximate=deployment.approximate).blueprint.max_positions
    requests = base.run.requests
    mean_input, mean_output = round(requests.input_tokens.mean()), round(requests.output_tokens.mean())
    rows: list[ContextRow] = []
    for factor in FACTORS:
        tokens = factor * mean_input
        holds = int(base.memory.kv_capacity_tokens // (tokens + mean_output))
        if tokens + mean_output > limit:
            beyond = ContextPoint(reason=f"beyond the model's {limit:,} tokens")
            rows.append(ContextRow(factor, tokens, beyond, None, holds))
            continue
        alone = _point(_alone(base.scenario, tokens, mean_output), forecast, rows[0].alone if rows else None)
        rows.append(ContextRow(factor, tokens, alone, _loaded(base, factor, forecast), holds))
    return LongContext(tuple(rows), limit, mean_input, mean_output)


def _loaded(base: Forecast, factor: int, forecast: Forecaster) -> ContextPoint | None:
    """The scenario's own load with longer inputs; None for a trace, whose lengths are its own."""
    same = _measured_point(base, None)
    workload = base.scenario.workload
    if workload.input_tokens is None:
        return None
    if factor == 1:
        return same
    longer = workload.input_tokens.model_copy(update={"mean": workload.input_tokens.mean * factor})
    return _point(
        _with_workload(base.scenario, workload.model_copy(update={"input_tokens": longer})), forecast, same
    )


def _alone(scenario: Scenario, input_tokens: int, output_tokens: int) -> Scenario:
    """One client that sends two requests of exactly these lengths, one after the other."""
    workload = Workload(
        arrivals=ClosedLoop(concurrency=1, requests=2),
        input_tokens=Lengths(law="fixed", mean=input_tokens),
        output_tokens=Lengths(law="fixed", mean=output_tokens),
        seed=scenario.workload.seed,
    )
    return _with_workload(scenario, workload)


def _with_workload(scenario: Scenario, workload: Workload) -> Scenario:
    return scenario.model_copy(update={"workload": workload, "points": ()})


def _point(scenario: Scenario, forecast: Forecaster, first: ContextPoint | None) -> ContextPoint:
    try:
        return _measured_point(forecast(scenario), first)
    except SilicastError as error:
        return ContextPoint(reason=str(error))


def _measured_point(result: Forecast, first: ContextPoint | None) -> ContextPoint:
    ttft, tpot = result.metrics["ttft_ms"], result.metrics.get("tpot_ms")
    first = first or ContextPoint(ttft, tpot)
    return ContextPoint(ttft, tpot, _ratio(ttft, first.ttft), _ratio(tpot, first.tpot))


def _ratio(value: Estimate | None, base: Estimate | None) -> float | None:
    return value.value / base.value if value and base else None


def hardware_cost(forecast: Forecast) -> HardwareCost | None:
    """Cost at the scenario's price a GPU-hour; None when it states no price."""
    scenario = forecast.scenario
    if scenario.price_usd_per_gpu_hour is None:
        return None
    return HardwareCost(
        price_usd_per_gpu_hour=scenario.price_usd_per_gpu_hour,
        source=scenario.price_source,
        gpus=scenario.deployment.gpus,
        usd_per_hour=forecast.metrics["usd_per_hour"].value,
        usd_per_million_output_tokens=forecast.metrics["usd_per_million_output_tokens"],
        usd_per_million_total_tokens=forecast.metrics["usd_per_million_total_tokens"],
    )


def price_hint(system: str) -> str:
    """What to do where no price is given, with what was asked for the device elsewhere."""
    key = load_system(system).key
    quotes = [quote for quote in load_prices() if quote.system_key == key]
    if not quotes:
        return "no price: --price or price_usd_per_gpu_hour"
    asked = [quote.price_usd_per_hour.value for quote in quotes]
    newest = max(quote.as_of for quote in quotes)
    asked_for = f"{min(asked):g} to {max(asked):g} USD/h asked in {newest}"
    return f"no price: --price or price_usd_per_gpu_hour ({asked_for})"
