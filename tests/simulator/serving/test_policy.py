"""Cases of scheduling rules worked out by hand. A step lasts as many seconds as it has tokens."""

from dataclasses import dataclass, field

import pytest

from hardware_specs.records.errors import InfeasibleError, InputError
from simulator.serving.policy import (
    Policy,
    SglangMixed,
    SglangPrefillFirst,
    TensorRtLlm,
    VllmV1,
    cut_prompts,
    policy_named,
)
from simulator.serving.rank import Chunk, Ledger, Rank, RankLimits
from simulator.serving.simulate import simulate_serving

from .tables import burst, counting_table, options, timed, token_gaps_s

FOUR_PROMPTS = burst([3000] * 4, [10] * 4)


def rank_with(policy: Policy, prompts: list[int], outputs: list[int], capacity: int) -> Rank:
    limits = RankLimits(8192, 256, capacity, policy.reserve_output_fraction)
    rank = Rank(Ledger(prompts, outputs, None), limits)
    rank.waiting.extend(range(len(prompts)))
    return rank


def run_step(rank: Rank, chunks: list[Chunk]) -> None:
    """Count in one step with these chunks and every decode."""
    rank.take(chunks)
    rank.decode(1)
    for request in rank.completing:
        rank.ledger.first_token_s[request] = 0.0
        rank.start_decoding(request)


def test_vllm_fills_the_budget_beside_the_decodes() -> None:
    # A 3000, B 3000, C 2192 | A, B decode, C 808, D 3000 = 3810 | four decodes
    run = simulate_serving(counting_table(), options(VllmV1()), FOUR_PROMPTS)
    assert run.requests.first_token_s.tolist() == [8192, 8192, 12002, 12002]
    assert run.counters["prefill_steps"] == 2
    # A and B have their second token with step 2, their tenth nine decode steps after the first
    assert run.requests.finish_s[0] == 12002 + 8 * 4


def test_sglang_runs_prompts_alone_and_decodes_wait() -> None:
    # A 3000, B 3000, C 2192 | C 808, D 3000 = 3808, no decode | four decodes
    run = simulate_serving(counting_table(), options(SglangPrefillFirst()), FOUR_PROMPTS)
    assert run.requests.first_token_s.tolist() == [8192, 8192, 12000, 12000]
    assert run.requests.finish_s.tolist() == [12000 + 9 * 4] * 4
    # A and B wait from 8192 to 12004 for their second token
    assert token_gaps_s(run).tolist() == [4] * (9 * 4 - 2) + [3812] * 2


def test_tensorrt_llm_runs_whole_prompts_while_they_fit() -> None:
    # A 3000, B 3000; C would exceed 8192 | A, B decode, C 3000, D 3000 = 6002 | four decodes
    run = simulate_serving(counting_table(), options(TensorRtLlm()), FOUR_PROMPTS)
    assert run.requests.first_token_s.tolist() == [6000, 6000, 12002, 12002]


def test_sglang_mixed_takes_decodes_along() -> None:
    run = simulate_serving(counting_table(), options(SglangMixed()), FOUR_PROMPTS)
    assert run.requests.first_token_s.tolist() == [8192, 8192, 12002, 12002]


def test_a_small_budget_cuts_one_prompt_over_many_steps() -> None:
    # 2048 | 952 + 1096 | 1 + 1904 + 143 | 2 + 2046 | 2 + 811 + 1235 | 3 + 1765 = 12009 in all
    run = simulate_serving(counting_table(), options(VllmV1(), step_tokens=2048), FOUR_PROMPTS)
    assert run.counters["prefill_steps"] == 6
    assert run.requests.first_token_s[3] == 12000 + 0 + 0 + 1 + 2 + 2 + 3


def test_prompts_a_step_can_be_limited() -> None:
    run = simulate_serving(counting_table(), options(TensorRtLlm(max_prompts_per_step=1)), FOUR_PROMPTS)
    assert run.requests.first_token_s.tolist() == [3000, 6001, 9003, 12006]


@pytest.mark.parametrize(("depth", "seen_s"), [(1, 12002), (2, 12006)])
def test_a_request_in_the_middle_of_a_step_is_seen_one_step_later_by_a_pipelined_engine(
    depth: int, seen_s: float
) -> None:
    # the fifth request comes while step 2 runs (8192 to 12002); step 3 has four decodes
    requests = timed([0, 0, 0, 0, 10000], [3000] * 4 + [100], [10] * 5)
    run = simulate_serving(counting_table(), options(VllmV1(), pipeline_depth=depth), requests)
    assert run.requests.arrival_s[4] + run.requests.queue_s[4] == seen_s


@pytest.mark.parametrize(
    ("policy", "started"), [(VllmV1(), [0, 1, 2]), (SglangPrefillFirst(), [0, 1]), (TensorRtLlm(), [0, 1])]
)
def test_admission_with_20000_tokens_of_cache(policy: Policy, started: list[int]) -> None:
    # five prompts of 4000 with 4000 to come: reserving the output admits two
    rank = rank_with(policy, [4000] * 5, [4000] * 5, capacity=20_000)
    run_step(rank, policy.plan(rank, 0.0))
    assert list(rank.running) == started
    policy.plan(rank, 1.0)
    # vLLM: 16,000 of prompts and two tokens leave 3,998 for the fifth prompt
    assert list(rank.running) == ([0, 1, 2, 3] if isinstance(policy, VllmV1) else started)


@pytest.mark.parametrize(
    ("policy", "generated", "dropped"),
    [
        (VllmV1(), [50, 40, 10], 2),
        (VllmV1(), [50, 10, 40], 2),
        (SglangPrefillFirst(), [50, 40, 10], 2),
        (SglangPrefillFirst(), [50, 10, 40], 1),
    ],
)
def test_who_is_dropped_when_the_cache_is_full(policy: Policy, generated: list[int], dropped: int) -> None:
    rank = rank_with(policy, [100] * 3, [200] * 3, capacity=10**6)
    run_step(rank, policy.plan(rank, 0.0))
    for request, tokens in enumerate(generated):  # as if each had begun earlier
        rank.ledger.finish_step[request] -= tokens - 1
    assert policy.victim(rank) == dropped


@pytest.mark.parametrize(("policy", "queue"), [(VllmV1(), [2, 3]), (SglangPrefillFirst(), [3, 2])])
def test_where_a_dropped_request_queues(policy: Policy, queue: list[int]) -> None:
    rank = rank_with(policy, [100] * 3, [200] * 3, capacity=10**6)
    run_step(rank, policy.plan(rank, 0.0))
    rank.waiting.append(3)
    rank.preempt(2, policy.requeue_at_head)
    assert list(rank.waiting) == queue


def test_preemption_by_hand() -> None:
    # two prompts of 4 with 4 to come, a cache of 10: step 1 (8 tokens) leaves 10 held, step 2 decodes both,
    # 12 are needed then, so B is dropped with two tokens (prompt 6, two to come). A decodes alone and ends
    # at 8 + 2 + 1 + 1 = 12. B computes 6 tokens to 18, its third, and has its last at 19.
    run = simulate_serving(counting_table(), options(VllmV1(), kv_capacity_tokens=10), burst([4, 4], [4, 4]))
    assert run.requests.first_token_s.tolist() == [8, 8]
    assert run.requests.finish_s.tolist() == [12, 19]
    assert run.counters["preemptions"] == 1
    assert run.counters["prefill_tokens"] == 8 + 6
    assert run.counters["kv_peak_tokens"] == 10
    assert token_gaps_s(run).tolist() == [1, 1, 1, 2, 2, 8]  # B waits from 10 to 18


def test_a_request_that_can_never_be_served_is_refused() -> None:
    with pytest.raises(InfeasibleError, match=r"9,000 tokens does not fit the KV cache.*8,999 tokens"):
        simulate_serving(counting_table(), options(kv_capacity_tokens=8999), burst([8000], [1000]))
    with pytest.raises(
        InfeasibleError, match=r"prompt of 9,000 tokens .* 8,192 tokens; TensorRtLlm never cuts"
    ):
        simulate_serving(counting_table(), options(TensorRtLlm()), burst([9000], [10]))


@dataclass(frozen=True)
class ShortestFirst(Policy):
    """What a user adds: the shortest waiting prompt goes first."""

    seen: list[int] = field(default_factory=list)

    def plan(self, rank: Rank, now_s: float) -> list[Chunk]:
        shortest = sorted(rank.waiting, key=lambda request: rank.ledger.prompt[request])
        rank.waiting.clear()
        rank.waiting.extend(shortest)
        chunks = cut_prompts(rank, rank.step_tokens, now_s)
        self.seen.extend(request for request, _, _ in chunks)
        return chunks


def test_a_user_adds_a_policy_in_a_few_lines() -> None:
    policy = ShortestFirst()
    simulate_serving(counting_table(), options(policy, max_running=1), burst([30, 10, 20], [5, 5, 5]))
    assert policy.seen == [1, 2, 0]


def test_options_that_make_no_sense_are_refused_all_at_once() -> None:
    with pytest.raises(InputError, match="max_prompts_per_step  must be 1 or more"):
        VllmV1(max_prompts_per_step=0)
    with pytest.raises(InputError) as refused:
        options(step_tokens=0, first_token_s=-1.0, kv_reserve_output_fraction=1.5, pipeline_depth=3)
    paths = [problem.path for problem in refused.value.problems]
    assert paths == ["step_tokens", "first_token_s", "kv_reserve_output_fraction", "pipeline_depth"]


def test_policies_go_by_the_names_of_stack_files() -> None:
    assert policy_named("vllm_v1") == VllmV1()
    assert policy_named("trtllm_inflight", 1) == TensorRtLlm(1)
    with pytest.raises(InputError, match="did you mean sglang_prefill_first"):
        policy_named("sglang_prefil_first")
