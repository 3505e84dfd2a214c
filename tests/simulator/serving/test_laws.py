"""Laws that every policy and every workload obeys."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_graphs.runs.records import ServingRun
from simulator.serving import simulate
from simulator.serving.lockstep import LockstepEngine
from simulator.serving.options import EngineOptions
from simulator.serving.policy import Policy, SglangMixed, SglangPrefillFirst, TensorRtLlm, VllmV1
from simulator.serving.simulate import simulate_serving
from simulator.serving.workload import Requests
from simulator.step.table import StepTable

from .tables import burst, closed, options, random_requests, served_table, timed, token_gaps_s

POLICIES: list[Policy] = [VllmV1(), SglangPrefillFirst(), SglangMixed(), TensorRtLlm()]


@st.composite
def workloads(draw: st.DrawFn) -> Requests:
    n = draw(st.integers(1, 40))
    inputs, outputs = random_requests(draw(st.integers(0, 10**6)), n)
    kind = draw(st.sampled_from(["closed", "poisson", "burst"]))
    if kind == "closed":
        return closed(draw(st.integers(1, 20)), inputs, outputs)
    rate = draw(st.sampled_from([3.0, 30.0, 300.0])) if kind == "poisson" else np.inf
    gaps_s = np.random.default_rng(draw(st.integers(0, 99))).exponential(1 / rate, n)
    return timed(np.cumsum(gaps_s).tolist(), inputs, outputs)


@st.composite
def engines(draw: st.DrawFn) -> EngineOptions:
    """Engines tight enough to queue, to fill their cache and to preempt."""
    return options(
        draw(st.sampled_from(POLICIES)),
        step_tokens=draw(st.sampled_from([460, 900])),
        max_running=draw(st.integers(1, 30)),
        kv_capacity_tokens=draw(st.integers(460, 2000)),
        kv_reserve_output_fraction=draw(st.sampled_from([0.0, 0.4, 1.0])),
        first_token_s=draw(st.sampled_from([0.0, 0.02])),
        stream_interval_steps=draw(st.sampled_from([0.0, 3.5])),
        frontend_s_per_token=draw(st.sampled_from([0.0, 1e-5])),
        pipeline_depth=draw(st.sampled_from([1, 2])),
        replicas=draw(st.integers(1, 3)),
        rank_routing=draw(st.sampled_from(["round_robin", "least_loaded", "random"])),
    )


ranks = st.sampled_from([1, 1, 3])


def assert_equal_runs(first: ServingRun, second: ServingRun) -> None:
    for column in ("arrival_s", "first_token_s", "finish_s", "queue_s", "input_tokens", "output_tokens"):
        np.testing.assert_allclose(
            getattr(first.requests, column), getattr(second.requests, column), rtol=1e-9, atol=1e-9
        )
    assert first.counters == pytest.approx(second.counters, rel=1e-9)


@settings(max_examples=150, deadline=None)
@given(workloads(), engines(), ranks)
def test_jumped_runs_of_decode_steps_change_nothing(
    requests: Requests, engine: EngineOptions, dp: int
) -> None:
    jumped = simulate_serving(served_table(dp), engine, requests)
    stepped = simulate_serving(served_table(dp), replace(engine, jump_decode_runs=False), requests)
    assert_equal_runs(jumped, stepped)
    np.testing.assert_allclose(token_gaps_s(jumped), token_gaps_s(stepped), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(workloads(), engines())
def test_lockstep_with_one_rank_is_the_solo_engine(requests: Requests, engine: EngineOptions) -> None:
    solo = simulate_serving(served_table(), engine, requests)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "SoloEngine", LockstepEngine)
        lockstep = simulate_serving(served_table(), engine, requests)
    assert_equal_runs(solo, lockstep)


@settings(max_examples=100, deadline=None)
@given(workloads(), engines(), ranks)
def test_tokens_are_conserved(requests: Requests, engine: EngineOptions, dp: int) -> None:
    run = simulate_serving(served_table(dp), engine, requests)
    table, counters = run.requests, run.counters
    assert sorted(table.input_tokens) == sorted(requests.input_tokens)
    # a token that is not the first comes from a decode step, or from a prefill after a preemption
    n_gaps = requests.output_tokens.sum() - len(requests)
    gaps_s = token_gaps_s(run)
    assert len(gaps_s) == n_gaps
    assert n_gaps - counters["preemptions"] <= counters["sequence_steps"] <= n_gaps
    assert counters["prefill_tokens"] >= requests.input_tokens.sum()
    if not counters["preemptions"]:
        assert counters["prefill_tokens"] == requests.input_tokens.sum()
        assert counters["sequence_steps"] == n_gaps
    # gaps add up to the time between first and last tokens
    decode_s = (table.finish_s - table.first_token_s).sum()
    assert gaps_s.sum() == pytest.approx(decode_s, rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(workloads(), engines(), ranks)
def test_limits_are_kept_and_time_runs_forward(requests: Requests, engine: EngineOptions, dp: int) -> None:
    run = simulate_serving(served_table(dp), engine, requests)
    table, counters = run.requests, run.counters
    assert 0 < counters["kv_peak_tokens"] <= engine.kv_capacity_tokens
    assert counters["mean_decode_batch"] <= engine.max_running * dp
    assert counters["busy_s"] <= run.makespan_s * engine.replicas * (1 + 1e-9)
    assert (table.queue_s >= 0).all()
    assert (table.first_token_s > table.arrival_s + table.queue_s).all()
    assert (table.finish_s[table.output_tokens > 1] > table.first_token_s[table.output_tokens > 1]).all()
    assert (np.diff(table.arrival_s) >= 0).all()
    if requests.concurrency is not None:
        events = sorted([(t, 1) for t in table.arrival_s] + [(t - 1e-9, -1) for t in table.finish_s])
        assert np.cumsum([change for _, change in events]).max() <= requests.concurrency


@settings(max_examples=40, deadline=None)
@given(workloads(), engines(), ranks, st.integers(0, 3))
def test_the_same_seed_gives_the_same_bytes(
    requests: Requests, engine: EngineOptions, dp: int, seed: int
) -> None:
    first, second = (simulate_serving(served_table(dp), engine, requests, seed) for _ in range(2))
    assert first.requests.finish_s.tobytes() == second.requests.finish_s.tobytes()
    assert first.counters == second.counters


@settings(max_examples=60, deadline=None)
@given(workloads(), engines(), ranks, st.sampled_from([2.0, 4.0]))
def test_a_slower_machine_is_later_by_its_factor(
    requests: Requests, engine: EngineOptions, dp: int, factor: float
) -> None:
    # time has no other scale when arrivals, front end and delays are slowed too
    slow_engine = replace(
        engine,
        first_token_s=engine.first_token_s * factor,
        frontend_s_per_token=engine.frontend_s_per_token * factor,
    )
    slow_requests = requests
    if requests.arrival_s is not None:
        slow_requests = replace(requests, arrival_s=requests.arrival_s * factor)
    fast = simulate_serving(served_table(dp), engine, requests)
    slow = simulate_serving(served_table(dp).scaled(factor), slow_engine, slow_requests)
    np.testing.assert_allclose(slow.requests.finish_s, fast.requests.finish_s * factor, rtol=1e-9)
    assert slow.n_steps == fast.n_steps


@pytest.mark.parametrize("policy", POLICIES)
def test_a_higher_load_never_shortens_the_mean_wait_of_a_server_of_one(policy: Policy) -> None:
    inputs, outputs = random_requests(5, 200)
    arrival_s = np.cumsum(np.random.default_rng(6).exponential(1.0, 200))
    waits_s = [
        simulate_serving(
            served_table(),
            options(policy, max_running=1),
            timed((arrival_s * scale).tolist(), inputs, outputs),
        ).requests.queue_s
        for scale in (1.0, 0.5, 0.2, 0.1, 0.01)
    ]
    for lighter_s, heavier_s in pairwise(waits_s):
        assert (heavier_s >= lighter_s - 1e-9).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_lone_request_takes_its_steps(policy: Policy) -> None:
    table = served_table()
    run = simulate_serving(table, options(policy), burst([100], [2]))
    common_s = table.host_base_s + table.host_per_sequence_s
    prefill_s = table.local_s[100] + table.expert_s[100] + table.head_s[1] + table.prefill(1, 100)
    decode_s = table.local_s[1] + table.expert_s[1] + table.head_s[1] + table.decode(1, 101)
    assert run.requests.ttft_s[0] == pytest.approx(prefill_s + common_s + table.host_prefill_s, rel=1e-12)
    assert run.requests.tpot_s[0] == pytest.approx(decode_s + common_s, rel=1e-12)


def with_dp(table: StepTable, dp: int) -> StepTable:
    return replace(table, dp=dp)


def test_ranks_in_lockstep_are_as_slow_as_the_slowest() -> None:
    # rank 0 has a prompt of 300, rank 1 one of 30: both have their first token when rank 0 is done
    table = served_table(dp=2)
    run = simulate_serving(table, options(), burst([300, 30], [2, 2]))
    prefill_s = (
        table.local_s[300]
        + table.expert_s[330]
        + table.head_s[1]
        + table.prefill(1, 300)
        + table.host_base_s
        + 2 * table.host_per_sequence_s
        + table.host_prefill_s
    )
    decode_s = table.local_s[1] + table.expert_s[2] + table.head_s[1] + table.decode(1, 301)
    assert run.requests.ttft_s.tolist() == pytest.approx([prefill_s] * 2, rel=1e-12)
    expected_s = decode_s + table.host_base_s + 2 * table.host_per_sequence_s
    assert run.requests.tpot_s.tolist() == pytest.approx([expected_s] * 2, rel=1e-12)


def test_two_ranks_with_the_same_work_are_one_rank_with_half_of_it() -> None:
    inputs, outputs = random_requests(8, 20)
    doubled = burst([t for t in inputs for _ in range(2)], [t for t in outputs for _ in range(2)])
    no_shared_work = replace(served_table(), expert_s=np.zeros(2), host_per_sequence_s=0.0)
    one = simulate_serving(no_shared_work, options(), burst(inputs, outputs))
    two = simulate_serving(with_dp(no_shared_work, 2), options(), doubled)
    np.testing.assert_allclose(two.requests.finish_s[::2], one.requests.finish_s, rtol=1e-12)
    np.testing.assert_allclose(two.requests.finish_s[1::2], one.requests.finish_s, rtol=1e-12)


def test_least_loaded_ranks_come_first() -> None:
    # request 0 is long on rank 0; round robin sends request 2 there too, least loaded to rank 1
    requests = timed([0.0, 0.0, 1.0], [400, 10, 300], [60, 1, 2])
    table = served_table(dp=2)
    balanced = simulate_serving(table, options(max_running=1, rank_routing="least_loaded"), requests)
    in_turn = simulate_serving(table, options(max_running=1), requests)
    assert balanced.requests.queue_s[2] <= in_turn.requests.queue_s[2]


def test_replicas_split_an_open_workload() -> None:
    inputs, outputs = random_requests(9, 30)
    arrival_s = np.cumsum(np.random.default_rng(1).exponential(0.02, 30)).tolist()
    both = simulate_serving(served_table(), options(replicas=2), timed(arrival_s, inputs, outputs))
    for replica in (0, 1):
        alone = simulate_serving(
            served_table(), options(), timed(arrival_s[replica::2], inputs[replica::2], outputs[replica::2])
        )
        np.testing.assert_allclose(both.requests.finish_s[replica::2], alone.requests.finish_s, rtol=1e-12)


def test_delays_to_the_client_shift_tokens_and_leave_tpot_alone() -> None:
    inputs, outputs = [100] * 4, [11] * 4
    plain = simulate_serving(served_table(), options(), burst(inputs, outputs)).requests
    late = simulate_serving(
        served_table(), options(first_token_s=0.5, stream_interval_steps=3.0), burst(inputs, outputs)
    ).requests
    np.testing.assert_allclose(late.ttft_s, plain.ttft_s + 0.5 + 3 * plain.tpot_s)
    np.testing.assert_allclose(late.tpot_s, plain.tpot_s)


def test_a_serial_front_end_hands_prompts_over_one_by_one() -> None:
    run = simulate_serving(
        served_table(), options(frontend_s_per_token=1.0), burst([100, 50], [2, 2])
    ).requests
    assert run.queue_s.tolist() == pytest.approx([100, 150])
