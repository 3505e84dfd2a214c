"""Forecasts: every number has an interval and a grade, the same input gives the same bytes, and laws hold."""

import pytest

from hardware_specs.records.errors import InfeasibleError
from simulator.predict import forecast
from simulator.scenario.model import ClosedLoop, Deployment, Lengths, Poisson, Scenario, Workload

R1 = Deployment(model="deepseek-r1", system="h200_sxm", stack="sglang", stack_version="0.5.9")


def scenario(concurrency=8, isl=1024, osl=128, **changes):
    workload = Workload(
        arrivals=ClosedLoop(concurrency=concurrency, requests=4 * concurrency),
        input_tokens=Lengths(law="uniform", mean=isl),
        output_tokens=Lengths(law="uniform", mean=osl),
    )
    return Scenario(name="test", deployment=R1, workload=workload).model_copy(update=changes)


@pytest.fixture(scope="module")
def result():
    return forecast(scenario(price_usd_per_gpu_hour=3.0, price_source="a quote"))


def test_every_metric_has_an_interval_around_it_and_a_grade(result):
    for name, estimate in result.metrics.items():
        assert estimate.low <= estimate.value <= estimate.high, name
        assert estimate.grade in "ABCD"
    for name in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "output_tok_s", "energy_j_per_token", "power_w"):
        assert result.metrics[name].low < result.metrics[name].high, name


def test_the_same_scenario_gives_the_same_forecast(result):
    again = forecast(scenario(price_usd_per_gpu_hour=3.0, price_source="a quote"))
    assert again.metrics == result.metrics
    assert again.input_hash == result.input_hash


def test_another_scenario_has_another_hash(result):
    assert forecast(scenario(concurrency=9)).input_hash != result.input_hash


def test_money_is_price_times_time_over_tokens(result):
    hourly = 8 * 3.0
    assert result.metrics["usd_per_hour"].value == hourly
    per_million = hourly / 3600 / result.metrics["output_tok_s"].value * 1e6
    assert result.metrics["usd_per_million_output_tokens"].value == pytest.approx(per_million)


def test_without_a_price_there_is_no_money():
    assert "usd_per_hour" not in forecast(scenario()).metrics


def test_power_never_exceeds_the_boards(result):
    assert result.metrics["power_w"].high <= 8 * 700


def test_energy_a_token_is_power_times_time_over_tokens(result):
    run, metrics = result.run, result.metrics
    joules = metrics["power_w"].value * run.makespan_s / run.requests.output_tokens.sum()
    assert metrics["energy_j_per_token"].value == pytest.approx(joules)


def test_the_breakdown_of_the_decode_step_is_positive_and_names_the_experts(result):
    breakdown = result.step_breakdown["mean decode step"]
    assert breakdown["moe"] > 0
    assert all(seconds >= 0 for seconds in breakdown.values())


def test_more_clients_never_make_a_token_faster():
    tpot = [forecast(scenario(concurrency=c)).metrics["tpot_ms"].value for c in (1, 4, 16, 64)]
    assert tpot == sorted(tpot)


def test_what_the_ledger_lists_has_a_source(result):
    assert result.assumptions
    assert all(entry.source for entry in result.assumptions)


def test_a_request_longer_than_the_context_is_infeasible():
    with pytest.raises(InfeasibleError, match="context of deepseek-r1"):
        forecast(scenario(concurrency=1, isl=900_000))


def test_a_request_longer_than_the_cache_is_infeasible():
    four = R1.model_copy(update={"system": "b200_sxm", "gpus": 4, "tp": 4, "gpu_memory_fraction": 0.92})
    with pytest.raises(InfeasibleError, match="KV cache"):
        forecast(scenario(concurrency=1, isl=160_000, deployment=four))


def test_arrivals_set_the_throughput_whatever_the_clock():
    workload = Workload(
        arrivals=Poisson(rate_per_s=0.05, requests=40),
        input_tokens=Lengths(mean=512),
        output_tokens=Lengths(mean=16),
    )
    rate = forecast(scenario(workload=workload)).metrics["samples_per_s"]
    assert rate.high / rate.low < 1.1


def test_arrivals_bind_where_engines_idle():
    workload = Workload(
        arrivals=Poisson(rate_per_s=0.05, requests=20),
        input_tokens=Lengths(mean=512),
        output_tokens=Lengths(mean=16),
    )
    assert forecast(scenario(workload=workload)).binding.startswith("arrivals")
