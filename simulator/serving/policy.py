"""Scheduling policies: what each serving engine puts into its next step.

A policy is asked for the prompt chunks of the next step of a rank whenever prompts wait or are part-way, and
names a victim when the cache runs out. It reads and changes the rank only through `admissible`, `admit` and
the rank's sums. To add one, subclass `Policy` and write `plan`; `POLICIES` names the built-in ones as stack
files do.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import ClassVar

from hardware_specs.records.errors import InputError, Problem, nearest
from simulator.serving.rank import Chunk, Rank


@dataclass(frozen=True)
class Policy(ABC):
    """What one engine does. `max_prompts_per_step` limits the prompts that share a step; none by default.

    `stalls_decode`: a step with prompts runs no decode on that rank. `whole_prompts`: a prompt is never cut,
    so none may exceed the step's tokens. `reserve_output_fraction`: share of the output still to come that
    admission counts as taken; below 1 the cache can run out, and then `victim` is dropped and computed again
    later, at the head of the queue if `requeue_at_head`.
    """

    max_prompts_per_step: int | None = None

    stalls_decode: ClassVar[bool] = False
    whole_prompts: ClassVar[bool] = False
    requeue_at_head: ClassVar[bool] = True
    reserve_output_fraction: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if self.max_prompts_per_step is not None and self.max_prompts_per_step < 1:
            requirement, given = "must be 1 or more, or None", str(self.max_prompts_per_step)
            raise InputError(Problem(path="max_prompts_per_step", requirement=requirement, given=given))

    @abstractmethod
    def plan(self, rank: Rank, now_s: float) -> list[Chunk]:
        """The chunks of the next step, in order; empty if no prompt can run.

        An empty plan must stay empty until a request arrives, finishes or is preempted: decode runs are
        jumped.
        """

    def victim(self, rank: Rank) -> int:
        """The running request to drop when the cache is full: the one admitted last."""
        return next(reversed(rank.running))


@dataclass(frozen=True)
class VllmV1(Policy):
    """Decode first, prompts cut to fill the rest of the token budget, every step may be mixed.

    The whole prompt's cache must be free at admission; nothing is reserved for the output. When a decode
    finds no cache, the request admitted last goes back to the head of the queue. The budget never cuts
    decode: the engine itself refuses to start with fewer tokens a step than sequences.

    References:
        vLLM 0.20.2 v1/core/sched/scheduler.py: running requests first, `scheduler_reserve_full_isl`, FCFS
        preemption.
    """

    reserve_output_fraction: ClassVar[float] = 0.0

    def plan(self, rank: Rank, now_s: float) -> list[Chunk]:
        """Chunks within what the decoding sequences leave of the budget."""
        return cut_prompts(rank, rank.step_tokens - rank.n_decoding, now_s, self.max_prompts_per_step)


@dataclass(frozen=True)
class SglangPrefillFirst(Policy):
    """Prompts run alone, up to the chunk budget, while any can; the decoding sequences of the rank wait.

    At most the last prompt of a step is cut. When the cache runs out, the request with the fewest generated
    tokens (ties: the longest prompt) goes to the tail of the queue.

    References:
        SGLang 0.5.23 srt/managers/scheduler.py and schedule_policy.py: running requests with ignore_eos are
        charged their whole output. The decaying new_token_ratio of older versions is one number here, and a
        request is never charged less because another frees its cache sooner.
    """

    stalls_decode: ClassVar[bool] = True
    requeue_at_head: ClassVar[bool] = False

    def plan(self, rank: Rank, now_s: float) -> list[Chunk]:
        """Chunks within the whole budget."""
        return cut_prompts(rank, rank.step_tokens, now_s, self.max_prompts_per_step)

    def victim(self, rank: Rank) -> int:
        """The request with the fewest generated tokens, the longest prompt among those."""
        return min(rank.running, key=lambda request: (rank.generated(request), -rank.ledger.prompt[request]))


@dataclass(frozen=True)
class SglangMixed(SglangPrefillFirst):
    """SGLang with `enable_mixed_chunk`: decoding sequences ride along and take their share of the budget."""

    stalls_decode: ClassVar[bool] = False

    def plan(self, rank: Rank, now_s: float) -> list[Chunk]:
        """Chunks within what the decoding sequences leave of the budget."""
        return cut_prompts(rank, rank.step_tokens - rank.n_decoding, now_s, self.max_prompts_per_step)


@dataclass(frozen=True)
class TensorRtLlm(Policy):
    """In-flight batching with whole prompts: the first that exceeds the rest of the budget ends the step.

    Admission reserves the prompt and all of its output (GUARANTEED_NO_EVICT), so nothing is ever preempted.

    References:
        TensorRT-LLM capacityScheduler.cpp 02a10fe, microBatchScheduler.cpp 0a949d3; chunked context is off by
        default.
    """

    whole_prompts: ClassVar[bool] = True

    def plan(self, rank: Rank, now_s: float) -> list[Chunk]:
        """Whole prompts within what the decoding sequences leave of the budget."""
        budget = rank.step_tokens - rank.n_decoding
        limit = self.max_prompts_per_step or inf
        chunks: list[Chunk] = []
        while rank.waiting and len(chunks) < limit and rank.admissible():
            tokens = rank.ledger.prompt[rank.waiting[0]]
            if tokens > budget:
                break
            chunks.append((rank.admit(now_s), tokens, 0))
            budget -= tokens
        return chunks


def cut_prompts(rank: Rank, budget: int, now_s: float, max_prompts: int | None = None) -> list[Chunk]:
    """Chunks that fill `budget` tokens: first the prompts that are part-way, then new ones if admissible."""
    limit = max_prompts or inf
    ledger = rank.ledger
    chunks: list[Chunk] = []
    for request in rank.partial:
        if budget <= 0 or len(chunks) >= limit:
            return chunks
        past = ledger.done[request]
        new = min(ledger.prompt[request] - past, budget)
        chunks.append((request, new, past))
        budget -= new
    while budget > 0 and rank.waiting and len(chunks) < limit and rank.admissible():
        request = rank.admit(now_s)
        new = ledger.prompt[request]
        if new > budget:
            new = budget
        chunks.append((request, new, 0))
        budget -= new
    return chunks


#: policies by the names that stack files use
POLICIES: Mapping[str, type[Policy]] = MappingProxyType(
    {
        "vllm_v1": VllmV1,
        "sglang_prefill_first": SglangPrefillFirst,
        "sglang_mixed": SglangMixed,
        "trtllm_inflight": TensorRtLlm,
    }
)


def policy_named(name: str, max_prompts_per_step: int | None = None) -> Policy:
    """The built-in policy of that name.

    Raises:
        InputError: there is none.
    """
    if name not in POLICIES:
        requirement = f"must be one of {', '.join(POLICIES)}"
        raise InputError(
            Problem(path="policy", requirement=requirement, given=name, suggestion=nearest(name, POLICIES))
        )
    return POLICIES[name](max_prompts_per_step)
