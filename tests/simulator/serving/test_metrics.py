import numpy as np
import pytest

from hardware_specs.records.errors import InputError
from model_graphs.runs.records import RequestTable, ServingRun
from simulator.serving.metrics import UNITS, after_warmup, mean_in_flight, serving_metrics, unit_of
from simulator.serving.policy import VllmV1
from simulator.serving.simulate import simulate_serving

from .tables import burst, counting_table, options, random_requests, served_table


def hand_made_run() -> ServingRun:
    """Four requests: TTFT 1, 2, 3, 4 s; TPOT 0.1, 0.2, 0.3 s and none; 2 s gaps for one token in four."""
    table = RequestTable(
        arrival_s=np.array([0.0, 0.0, 10.0, 10.0]),
        first_token_s=np.array([1.0, 2.0, 13.0, 14.0]),
        finish_s=np.array([2.0, 4.0, 16.0, 14.0]),
        input_tokens=np.array([100, 200, 300, 400]),
        output_tokens=np.array([11, 11, 11, 1]),
        queue_s=np.zeros(4),
    )
    gaps_s, weight = np.array([2.0, 0.1, 0.2]), np.array([25.0, 50.0, 25.0])
    return ServingRun(table, makespan_s=20.0, n_steps=3, itl_s=gaps_s, itl_weight=weight)


def test_request_metrics_by_hand() -> None:
    metrics = serving_metrics(hand_made_run(), n_gpus=2)
    assert metrics["ttft_ms"] == pytest.approx(2500)
    assert metrics["ttft_median_ms"] == pytest.approx(2500)
    assert metrics["ttft_p90_ms"] == pytest.approx(3700)  # linear, between 3 and 4 s
    assert metrics["tpot_ms"] == pytest.approx(200)  # the request with one token has none
    assert metrics["e2e_ms"] == pytest.approx((2 + 4 + 6 + 4) / 4 * 1e3)


def test_throughput_by_hand() -> None:
    metrics = serving_metrics(hand_made_run(), n_gpus=2)
    assert metrics["input_tok_s"] == pytest.approx(1000 / 20)
    assert metrics["output_tok_s"] == pytest.approx(34 / 20)
    assert metrics["total_tok_s_per_gpu"] == pytest.approx(1034 / 20 / 2)
    assert metrics["samples_per_s"] == pytest.approx(4 / 20)
    assert metrics["output_tok_s_per_user"] == pytest.approx(1 / 0.2)


def test_every_metric_has_a_unit() -> None:
    units = {unit_of(name) for name in serving_metrics(hand_made_run(), n_gpus=2)}
    assert units == set(UNITS.values())
    assert unit_of("output_tok_s_per_gpu") == "tokens/s/GPU"
    with pytest.raises(InputError, match="must end in one of"):
        unit_of("energy_j_per_token")


def test_gaps_count_once_a_token() -> None:
    metrics = serving_metrics(hand_made_run(), n_gpus=1)
    assert metrics["itl_ms"] == pytest.approx((2.0 * 25 + 0.1 * 50 + 0.2 * 25) / 100 * 1e3)
    assert metrics["itl_median_ms"] == pytest.approx(100)  # half of the tokens took 0.1 s
    assert metrics["itl_p90_ms"] == pytest.approx(2000)


def test_what_a_run_does_not_determine_is_absent() -> None:
    run = simulate_serving(counting_table(), options(), burst([5, 5], [1, 1]))
    metrics = serving_metrics(run, n_gpus=1)
    assert "ttft_ms" in metrics
    assert not any(name.startswith(("tpot", "itl")) for name in metrics)


def test_the_mean_gap_lies_with_the_tpots_of_a_run() -> None:
    inputs, outputs = random_requests(1, 50)
    run = simulate_serving(served_table(), options(VllmV1()), burst(inputs, outputs))
    metrics = serving_metrics(run, n_gpus=1)
    table = run.requests
    tokens = (table.output_tokens - 1).sum()
    expected_s = (table.finish_s - table.first_token_s).sum() / tokens
    assert metrics["itl_ms"] == pytest.approx(expected_s * 1e3, rel=1e-9)


def test_warmup_leaves_out_the_first_requests() -> None:
    steady = after_warmup(hand_made_run(), 2)
    assert serving_metrics(steady, n_gpus=1)["ttft_ms"] == pytest.approx(3500)
    assert steady.makespan_s == 6
    with pytest.raises(InputError, match="must leave one"):
        after_warmup(hand_made_run(), 4)


def test_requests_in_flight_by_hand() -> None:
    # 2 for 2 s, 1 for 2 s, none for 6 s, 2 for 4 s, 1 for 2 s, over 16 s
    assert mean_in_flight(hand_made_run().requests) == pytest.approx((4 + 2 + 0 + 8 + 2) / 16)
