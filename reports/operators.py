"""The operators of a typical decode and prefill step of a scenario, summed over layers."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from model_graphs.runs.records import StepRun
from simulator.forecast import Forecast
from simulator.scenario.model import Deployment
from simulator.step_forecast import StepForecast

StepForecaster = Callable[[Deployment, str, int, int], StepForecast]


@dataclass(frozen=True)
class OperatorTime:
    """Seconds that one rank spends in all operators of one name and bound."""

    name: str
    bound: str
    n_calls: int
    busy_s: float


@dataclass(frozen=True)
class TypicalStep:
    """A step like those of the run: its phase, sizes and operators, the longest first."""

    title: str
    makespan_s: float
    operators: tuple[OperatorTime, ...]


def typical_steps(forecast: Forecast, step: StepForecaster) -> tuple[TypicalStep, ...]:
    """A decode step at the run's mean batch and context, and the prefill of one mean prompt."""
    requests = forecast.run.requests
    n_input, n_output = round(requests.input_tokens.mean()), round(requests.output_tokens.mean())
    batch = max(round(forecast.run.counters["mean_decode_batch"]), 1)
    context = n_input + n_output // 2
    deployment = forecast.scenario.deployment
    decode = step(deployment, "decode", batch, context)
    prefill = step(deployment, "prefill", deployment.dp, n_input)
    return (
        TypicalStep(f"decode, {batch} sequences at {context:,} tokens", *_timed(decode.run)),
        TypicalStep(f"prefill, {deployment.dp} x {n_input:,} tokens", *_timed(prefill.run)),
    )


def _timed(run: StepRun) -> tuple[float, tuple[OperatorTime, ...]]:
    return run.makespan_s, operator_times(run)


def operator_times(run: StepRun) -> tuple[OperatorTime, ...]:
    """Rank 0's busy seconds by operator and bound, the longest first."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for span in run.spans:
        if span.rank == 0:
            *_, name = span.name.split(".", 2)  # block, instance, operator
            seconds[name, span.bound].append(span.end_s - span.start_s)
    found = [OperatorTime(name, bound, len(times), sum(times)) for (name, bound), times in seconds.items()]
    return tuple(sorted(found, key=lambda one: (-one.busy_s, one.name)))
