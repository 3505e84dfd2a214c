"""The engine against results that are known exactly.

A server that takes one request at a time: every request has one output token, one slot runs, and a step
lasts as long as the prompt has tokens.
"""

import numpy as np
import pytest

from model_graphs.runs.records import FloatArray, IntArray, ServingRun
from simulator.scenario.model import ClosedLoop, Lengths, Workload
from simulator.serving.metrics import littles_law_error, mean_in_flight
from simulator.serving.policy import Policy, SglangPrefillFirst, TensorRtLlm, VllmV1
from simulator.serving.simulate import simulate_serving
from simulator.serving.workload import Requests, generate

from .tables import closed, counting_table, options, random_requests, served_table, timed

SERVICE_TOKENS = 100_000


def one_at_a_time(arrival_s: FloatArray, service_tokens: IntArray) -> ServingRun:
    """A queue with one server; service takes 1 s for `SERVICE_TOKENS` tokens."""
    engine = options(max_running=1, step_tokens=10**9, kv_capacity_tokens=10**9)
    requests = Requests(service_tokens, np.ones(len(service_tokens), dtype=np.int64), arrival_s=arrival_s)
    return simulate_serving(counting_table(1 / SERVICE_TOKENS), engine, requests)


def lindley_waits_s(arrival_s: FloatArray, service_s: FloatArray) -> FloatArray:
    """Waits in a queue with one server, one request after the other."""
    waits_s = np.zeros(len(arrival_s))
    for i in range(1, len(arrival_s)):
        free_s = waits_s[i - 1] + service_s[i - 1] - (arrival_s[i] - arrival_s[i - 1])
        waits_s[i] = max(free_s, 0.0)
    return waits_s


@pytest.mark.parametrize("utilisation", [0.3, 0.7])
def test_mm1_waits(utilisation: float) -> None:
    rng = np.random.default_rng(7)
    arrival_s = np.cumsum(rng.exponential(1 / utilisation, 40_000))
    tokens = np.maximum(rng.exponential(SERVICE_TOKENS, 40_000).round(), 1).astype(np.int64)
    waits_s = one_at_a_time(arrival_s, tokens).requests.queue_s
    np.testing.assert_allclose(waits_s, lindley_waits_s(arrival_s, tokens / SERVICE_TOKENS), atol=1e-7)
    # mean wait = utilisation / (service rate - arrival rate), service rate 1/s
    assert waits_s.mean() == pytest.approx(utilisation / (1 - utilisation), rel=0.08)


@pytest.mark.parametrize("utilisation", [0.3, 0.7])
def test_md1_waits(utilisation: float) -> None:
    rng = np.random.default_rng(11)
    arrival_s = np.cumsum(rng.exponential(1 / utilisation, 40_000))
    waits_s = one_at_a_time(arrival_s, np.full(40_000, SERVICE_TOKENS)).requests.queue_s
    # Pollaczek-Khinchine without variance of service: half of M/M/1
    assert waits_s.mean() == pytest.approx(utilisation / (1 - utilisation) / 2, rel=0.05)


def test_a_machine_repair_loop_of_one_server_is_busy_all_the_time() -> None:
    # 3 clients, service 1 s: from the second on, every request waits for the two before it
    engine = options(max_running=1, step_tokens=10**9, kv_capacity_tokens=10**9)
    run = simulate_serving(counting_table(1 / 100), engine, closed(3, [100] * 12, [1] * 12))
    assert run.requests.e2e_s.tolist() == pytest.approx([1, 2, *[3] * 10])
    assert run.makespan_s == pytest.approx(12)


@pytest.mark.parametrize("policy", [VllmV1(), SglangPrefillFirst(), TensorRtLlm()])
def test_littles_law(policy: Policy) -> None:
    inputs, outputs = random_requests(3, 300)
    arrival_s = np.cumsum(np.random.default_rng(4).exponential(0.02, 300)).tolist()
    run = simulate_serving(
        served_table(), options(policy, max_running=20, first_token_s=0.01), timed(arrival_s, inputs, outputs)
    )
    assert littles_law_error(run.requests) == pytest.approx(0.0, abs=1e-12)
    assert mean_in_flight(run.requests) > 5


def test_a_closed_loop_keeps_its_clients_busy() -> None:
    workload = Workload(
        arrivals=ClosedLoop(concurrency=8, requests=400),
        input_tokens=Lengths(law="uniform", mean=300),
        output_tokens=Lengths(law="uniform", mean=50),
    )
    run = simulate_serving(served_table(), options(stream_interval_steps=5.0), generate(workload))
    # only the last requests see fewer than eight in flight
    assert 7.5 < mean_in_flight(run.requests) <= 8
