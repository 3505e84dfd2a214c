from collections.abc import Callable

import pytest

from model_graphs.runs.records import Span, StepRun
from reports.operators import operator_times, typical_steps
from simulator.forecast import Forecast
from simulator.scenario.model import Deployment, Scenario
from simulator.step_forecast import StepForecast, forecast_step


def span(name: str, start_s: float, end_s: float, *, rank: int = 0, bound: str = "memory") -> Span:
    return Span(name, "linear", "attention", rank, "compute", start_s, end_s, bound)


def test_calls_of_one_operator_are_summed_over_layers_on_one_rank() -> None:
    spans = (
        span("layer.0.attn.q_b", 0.0, 1.0),
        span("layer.0.attn.q_b", 0.0, 9.0, rank=1),
        span("layer.0.norm", 1.0, 1.5, bound="launch"),
        span("layer.1.attn.q_b", 1.5, 3.5),
    )
    first, second = operator_times(StepRun(spans, 3.5, 2))
    assert (first.name, first.n_calls, first.busy_s) == ("attn.q_b", 2, 3.0)
    assert (second.name, second.bound, second.busy_s) == ("norm", "launch", 0.5)


def test_a_typical_step_has_the_runs_mean_batch_and_context(
    scenario: Scenario, fake_forecast: Callable[[Scenario], Forecast]
) -> None:
    asked: list[tuple[str, int, int]] = []

    def step(deployment: Deployment, phase: str, batch: int, length: int) -> StepForecast:
        asked.append((phase, batch, length))
        return forecast_step(deployment, phase, batch, length)

    forecast = fake_forecast(scenario)
    forecast.run.counters["mean_decode_batch"] = 3.6
    steps = typical_steps(forecast, step)
    # 1,000 tokens in and 11 out: a decoding sequence is at 1,005 on average
    assert asked == [("decode", 4, 1005), ("prefill", 1, 1000)]
    for one in steps:
        beside_s = sum(o.busy_s for o in one.operators if "shared_experts" in o.name)  # on the second stream
        busy_s = sum(operator.busy_s for operator in one.operators)
        assert beside_s > 0
        assert busy_s - beside_s == pytest.approx(one.makespan_s, rel=1e-6)
