from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hardware_specs.records.errors import DoesNotFitError
from reports.comparison import at_point
from reports.indicators import hardware_cost, long_context
from reports.load_curve import load_curve
from reports.objectives import check_objectives
from reports.simulation import simulate_report
from simulator.forecast import Assumption, Forecast
from simulator.scenario.model import Burst, Objectives, Poisson, Scenario, TraceReplay

Forecaster = Callable[[Scenario], Forecast]


def test_long_context_is_asked_at_4_16_and_64_times_the_mean_input(
    scenario: Scenario, fake_forecast: Forecaster
) -> None:
    # the fake's TTFT and TPOT are proportional to the input, so the ratios are the factors
    rows = long_context(fake_forecast(scenario), fake_forecast).rows
    assert [row.input_tokens for row in rows] == [1000, 4000, 16000, 64000]
    assert [row.alone.tpot_ratio for row in rows] == pytest.approx([1, 4, 16, 64])
    assert [row.loaded and row.loaded.ttft_ratio for row in rows] == pytest.approx([1, 4, 16, 64])
    assert rows[3].cache_holds_requests == 600_000 // 64_011


def test_long_context_stops_at_the_models_limit(scenario: Scenario, fake_forecast: Forecaster) -> None:
    longer = with_workload(
        scenario, input_tokens=scenario.workload.input_tokens.model_copy(update={"mean": 8192})
    )
    rows = long_context(fake_forecast(longer), fake_forecast).rows
    # 64 x 8,192 = 524,288 tokens are beyond the 163,840 of the model
    assert "163,840" in rows[3].alone.reason
    assert rows[3].alone.tpot is None
    assert rows[2].alone.tpot_ratio == pytest.approx(16)


def test_a_context_that_does_not_fit_gives_its_reason(scenario: Scenario, fake_forecast: Forecaster) -> None:
    def small(asked: Scenario) -> Forecast:
        if asked.workload.input_tokens.mean > 10_000:
            raise DoesNotFitError("one request", 2.0, 1.0)
        return fake_forecast(asked)

    rows = long_context(fake_forecast(scenario), small).rows
    assert "one request needs" in rows[2].alone.reason
    assert rows[1].alone.reason == ""


def test_what_a_sequence_keeps_beside_its_tokens_takes_room_from_the_cache(
    scenario: Scenario, fake_forecast: Forecaster
) -> None:
    base = fake_forecast(scenario)
    states = replace(base.memory, kv_bytes_per_sequence=base.memory.kv_bytes_per_token * 10_000)
    rows = long_context(replace(base, memory=states), fake_forecast).rows
    assert rows[0].cache_holds_requests == 600_000 // (1_011 + 10_000)


def test_the_cost_is_the_forecasts_with_the_price_it_rests_on(
    scenario: Scenario, fake_forecast: Forecaster
) -> None:
    cost = hardware_cost(fake_forecast(scenario))
    assert cost is not None
    # 8 GPUs at 2 USD/h over 44 tok/s: 16 / 3600 / 44 * 1e6 = 101.01 USD a million
    assert (cost.gpus, cost.usd_per_hour, cost.source) == (8, 16, "a contract")
    assert cost.usd_per_million_output_tokens.value == pytest.approx(101.0101)


def test_without_a_price_there_is_no_cost(scenario: Scenario, fake_forecast: Forecaster) -> None:
    free = scenario.model_copy(update={"price_usd_per_gpu_hour": None})
    assert hardware_cost(fake_forecast(free)) is None


def test_measured_points_are_predicted_at_their_own_clients_and_lengths(
    scenario: Scenario, fake_forecast: Forecaster
) -> None:
    at = at_point(scenario, scenario.points[0])
    assert at.workload.arrivals.concurrency == 16
    assert (at.workload.input_tokens.mean, at.workload.output_tokens.mean) == (2000, 11)
    (one,) = simulate_report(scenario, (), fake_forecast).comparisons
    # TPOT of the fake at 2,000 tokens is 20 ms, which is what was measured
    assert one.error == pytest.approx(0)
    assert one.inside


def test_assumptions_of_the_command_head_the_ledger(scenario: Scenario, fake_forecast: Forecaster) -> None:
    assumed = Assumption("--isl", "1024 tokens", "default", "assumed")
    report = simulate_report(scenario, (assumed,), fake_forecast)
    assert report.forecast.assumptions[0] is assumed


def test_objectives_are_held_against_the_percentile_of_the_requests(
    scenario: Scenario, fake_forecast: Forecaster
) -> None:
    limits = Objectives(ttft_ms=99.0, tpot_ms=11.0, percentile=80)
    ttft, tpot = check_objectives(fake_forecast(scenario.model_copy(update={"objectives": limits})))
    assert (ttft.met, tpot.met) == (False, True)
    assert str(ttft) == "TTFT p80 100.0 ms > 99.0 ms: missed"
    assert tpot.value_ms == pytest.approx(10.0)


def test_the_load_curve_holds_the_scenarios_own_load(scenario: Scenario, fake_forecast: Forecaster) -> None:
    curve = load_curve(scenario, fake_forecast)
    assert curve.axis == "clients"
    assert 4 in [point.load for point in curve.points]


def test_the_load_curve_of_a_rate_is_over_rates(scenario: Scenario, fake_forecast: Forecaster) -> None:
    curve = load_curve(with_workload(scenario, arrivals=Poisson(rate_per_s=2.0)), fake_forecast)
    assert [point.load for point in curve.points] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_a_burst_has_no_load_curve(scenario: Scenario, fake_forecast: Forecaster) -> None:
    assert load_curve(with_workload(scenario, arrivals=Burst(requests=4)), fake_forecast).points == ()


def with_workload(scenario: Scenario, **changes: object) -> Scenario:
    return scenario.model_copy(update={"workload": scenario.workload.model_copy(update=changes)})


def test_rows_of_a_trace_that_do_not_read_are_in_the_ledger(
    scenario: Scenario, fake_forecast: Forecaster, tmp_path: Path
) -> None:
    trace = tmp_path / "calls.csv"
    header = "TIMESTAMP,ContextTokens,GeneratedTokens"
    trace.write_text(f"{header}\n2023-11-16 18:17:03.9799600,10,5\nbroken,x,y\n")
    replayed = with_workload(
        scenario, arrivals=TraceReplay(path=str(trace)), input_tokens=None, output_tokens=None
    )
    report = simulate_report(replayed.model_copy(update={"points": ()}), (), fake_forecast)
    sources = [one.source for one in report.forecast.assumptions if one.value == "left out"]
    assert sources
    assert all(f"{trace}:3" in source for source in sources)
