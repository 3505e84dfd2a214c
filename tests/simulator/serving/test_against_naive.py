import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_graphs.runs.records import ServingRun
from simulator.serving.policy import Policy, SglangPrefillFirst, TensorRtLlm, VllmV1
from simulator.serving.simulate import simulate_serving

from . import naive
from .tables import closed, options, random_requests, served_table, timed, token_gaps_s

POLICIES: dict[str, Policy] = {"vllm": VllmV1(), "sglang": SglangPrefillFirst(), "trtllm": TensorRtLlm()}


def assert_same(run: ServingRun, expected: list[naive.Sequence]) -> None:
    table = run.requests
    order = sorted(expected, key=lambda s: s.sent_s)
    np.testing.assert_allclose(table.first_token_s, [s.tokens_s[0] for s in order], rtol=1e-9)
    np.testing.assert_allclose(table.finish_s, [s.tokens_s[-1] for s in order], rtol=1e-9)
    gaps_s = np.sort(np.concatenate([np.diff(s.tokens_s) for s in expected]))
    np.testing.assert_allclose(token_gaps_s(run), gaps_s, rtol=1e-7)


@pytest.mark.parametrize("rule", POLICIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), rate=st.sampled_from([5.0, 40.0, 1000.0]))
def test_open_loop_equals_an_independent_simulation_token_by_token(rule: str, seed: int, rate: float) -> None:
    inputs, outputs = random_requests(seed, 40)
    arrival_s = np.cumsum(np.random.default_rng(seed + 1).exponential(1 / rate, 40)).tolist()
    engine = options(
        POLICIES[rule],
        step_tokens=512,
        max_running=20,
        kv_capacity_tokens=3000,
        kv_reserve_output_fraction=1.0,
    )
    run = simulate_serving(served_table(), engine, timed(arrival_s, inputs, outputs))
    arrivals = list(zip(arrival_s, inputs, outputs, strict=True))
    assert_same(run, naive.serve(served_table(), rule, 512, 20, 3000, arrivals))


@pytest.mark.parametrize("rule", POLICIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), concurrency=st.sampled_from([1, 7, 50]))
def test_closed_loop_equals_an_independent_simulation_token_by_token(
    rule: str, seed: int, concurrency: int
) -> None:
    inputs, outputs = random_requests(seed, 50)
    engine = options(
        POLICIES[rule],
        step_tokens=512,
        max_running=20,
        kv_capacity_tokens=3000,
        kv_reserve_output_fraction=1.0,
    )
    run = simulate_serving(served_table(), engine, closed(concurrency, inputs, outputs))
    arrivals = list(zip([0.0] * 50, inputs, outputs, strict=True))
    assert_same(run, naive.serve(served_table(), rule, 512, 20, 3000, arrivals, concurrency))
