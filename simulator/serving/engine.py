"""One serving engine as a simpy process: one event a step, or one for a run of decode steps that are alike.

The engine keeps its data-parallel attention ranks in lockstep, prices each step on the step table and lets the
policy fill it. A run of decode steps ends where something could change: a sequence finishes, a request arrives
that could be admitted, the cache is full, or attention leaves a straight piece of its table. A request that reaches
another replica's engine in the middle of such a run cuts it short at the end of the step in progress.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf, isnan, sqrt
from random import Random
from typing import Any

from simpy import Environment, Event, Interrupt

from simulator.serving.clock import StepClock
from simulator.serving.gaps import Segment
from simulator.serving.options import EngineOptions
from simulator.serving.rank import Ledger, Rank


@dataclass(slots=True)
class Counters:
    """What an engine counts; `sequence_steps` is the sum of decoding sequences over decode steps."""

    steps: int = 0
    busy_s: float = 0.0
    prefill_steps: int = 0
    decode_steps: int = 0
    sequence_steps: int = 0
    prefill_tokens: int = 0
    preemptions: int = 0
    kv_peak_tokens: int = 0


@dataclass(slots=True)
class Run:
    """A run of steps: the first lasts `first_s`, each further one `growth_s` more than the one before it."""

    start_s: float = 0.0
    first_s: float = 0.0
    growth_s: float = 0.0
    n_steps: int = 1

    def end_of(self, step: int) -> float:
        """When the first `step` steps are over."""
        return self.start_s + (step * self.first_s + self.growth_s * (step * (step - 1) / 2))

    def first_end_from(self, time_s: float) -> int:
        """The first step, 0 being the start, that ends at `time_s` or later; the last one if none does."""
        gap_s = time_s - self.start_s
        if gap_s <= 0:
            return 0
        middle_s = self.first_s - self.growth_s / 2
        root = middle_s * middle_s + 2 * self.growth_s * gap_s
        guess = 2 * gap_s / (middle_s + sqrt(root)) if root >= 0 and middle_s > 0 else self.n_steps
        step = min(max(int(guess), 1), self.n_steps)
        while step > 1 and self.end_of(step - 1) >= time_s:
            step -= 1
        while step < self.n_steps and self.end_of(step) < time_s:
            step += 1
        return step


class Engine:
    """A replica: attention ranks in lockstep behind one serial front end.

    `on_finish(request, time_s)` is called for every request that ends, while the engine stands between two steps.
    """

    def __init__(
        self,
        env: Environment,
        clock: StepClock,
        options: EngineOptions,
        ledger: Ledger,
        on_finish: Callable[[int, float], None],
        rng: Random,
    ) -> None:
        self.counters = Counters()
        self.segments: list[Segment] = []
        self._env = env
        self._clock = clock
        self._options = options
        self._policy = options.policy
        self._ledger = ledger
        self._on_finish = on_finish
        self._rng = rng
        self._ranks = [Rank(ledger, options.limits, self.segments) for _ in range(clock.n_ranks)]
        self._n_routed = 0
        self._pending: deque[tuple[float, int]] = deque()  # (sent, request), not yet through the front end
        self._frontend_free_s = 0.0
        self._next_arrival_s = inf
        self._now_s = 0.0
        self._horizon_s = 0.0  # requests that arrived by then are seen by the next step
        self._run = Run()
        self._shares_client = options.replicas > 1
        self._interruptible = False
        self._process = env.process(self._serve())

    def submit(self, request: int, sent_s: float) -> None:
        """Send a request to the front end, now or later; requests are taken in order of sending."""
        pending = self._pending
        if pending and sent_s < pending[-1][0]:
            insort(pending, (sent_s, request))
        else:
            pending.append((sent_s, request))
        if pending[0][1] == request:
            self._expect_next()
            if self._interruptible:
                self._interruptible = False
                self._process.interrupt()

    def _expect_next(self) -> None:
        """Note when the first pending request leaves the front end."""
        if self._pending:
            sent_s, request = self._pending[0]
            frontend_s = self._options.frontend_s_per_token * self._ledger.prompt[request]
            self._next_arrival_s = max(self._frontend_free_s, sent_s) + frontend_s
        else:
            self._next_arrival_s = inf

    def _take_arrivals(self) -> None:
        """Queue every request that the next step may see at the rank it is routed to."""
        while self._next_arrival_s <= self._horizon_s:
            _, request = self._pending.popleft()
            self._frontend_free_s = self._next_arrival_s
            self._route().waiting.append(request)
            self._expect_next()

    def _route(self) -> Rank:
        ranks = self._ranks
        if len(ranks) == 1:
            return ranks[0]
        if self._options.rank_routing == "least_loaded":
            return min(ranks, key=lambda rank: len(rank.waiting) + len(rank.running))
        if self._options.rank_routing == "random":
            return ranks[self._rng.randrange(len(ranks))]
        self._n_routed += 1
        return ranks[(self._n_routed - 1) % len(ranks)]

    def _serve(self) -> Generator[Event, Any, None]:
        timeout = self._env.timeout
        run = self._run
        while True:
            if self._next_arrival_s <= self._horizon_s:
                self._take_arrivals()
            run.start_s = self._now_s
            if self._plan():
                self._price_mixed_step()
            elif not self._price_decode_run():
                if self._next_arrival_s == inf and not self._shares_client:
                    return
                yield from self._idle()
                continue
            if self._shares_client and run.n_steps > 1:
                yield from self._wait_interruptibly()
            else:
                yield timeout(run.end_of(run.n_steps) - run.start_s)
            self._account()

    def _idle(self) -> Generator[Event, Any, None]:
        """Wait for the next request to leave the front end, or for one to be sent."""
        assert not any(rank.waiting or rank.partial for rank in self._ranks), (
            "the policy never runs a request"
        )
        arrival_s = self._next_arrival_s
        self._interruptible = self._shares_client
        try:
            yield (
                self._env.event()
                if arrival_s == inf
                else self._env.timeout(max(arrival_s - self._env.now, 0.0))
            )
        except Interrupt:
            return
        self._interruptible = False
        self._now_s = self._horizon_s = max(self._now_s, arrival_s)

    def _wait_interruptibly(self) -> Generator[Event, Any, None]:
        """Wait for the end of the run, which a request sent meanwhile may bring forward."""
        run = self._run
        while True:
            self._interruptible = True
            try:
                yield self._env.timeout(max(run.end_of(run.n_steps) - self._env.now, 0.0))
            except Interrupt:
                self._stop_for_arrival()
            else:
                self._interruptible = False
                return

    def _plan(self) -> bool:
        """Let the policy fill the next step; whether any rank runs prompts in it."""
        plan = self._policy.plan
        prefilling = False
        for rank in self._ranks:
            if rank.held_tokens > rank.capacity_tokens:
                self._make_room(rank)
            if rank.waiting or rank.partial:
                rank.chunks = plan(rank, self._now_s)
                if rank.chunks:
                    prefilling = True
        return prefilling

    def _make_room(self, rank: Rank) -> None:
        """Preempt until the cache holds what the next decode step needs."""
        while rank.held_tokens > rank.capacity_tokens:
            rank.preempt(self._policy.victim(rank), self._policy.requeue_at_head)
            self.counters.preemptions += 1

    def _price_mixed_step(self) -> None:
        """Make the run one step with the planned chunks, and count these."""
        clock = self._clock
        widest = total = sampled = running = 0
        slowest_s = 0.0
        for rank in self._ranks:
            tokens, rank_sampled, attention_s = self._price_rank(rank)
            widest = max(widest, tokens)
            total += tokens
            sampled = max(sampled, rank_sampled)
            running += len(rank.running)
            slowest_s = max(slowest_s, attention_s)
        self.counters.prefill_steps += 1
        run = self._run
        run.first_s = clock.tokens_s(widest, total, sampled, running) + slowest_s + clock.host_prefill_s
        run.growth_s = 0.0
        run.n_steps = 1

    def _price_rank(self, rank: Rank) -> tuple[int, int, float]:
        """Tokens of a rank's next step, sequences it samples, and its attention seconds."""
        clock = self._clock
        chunks = rank.chunks
        decoding = rank.n_in_step = 0 if chunks and self._policy.stalls_decode else rank.n_decoding
        attention_s = clock.decode[decoding].at(rank.context_tokens / decoding) if decoding else 0.0
        if not chunks:
            return decoding, decoding, attention_s
        prompt = self._ledger.prompt
        tokens = prefix = complete = 0
        for request, new, past in chunks:
            tokens += new
            prefix += new * past
            complete += past + new == prompt[request]
        n_chunks = len(chunks)
        attention_s += clock.prefill[n_chunks].at(tokens / n_chunks) + clock.prefix_s * prefix
        self.counters.prefill_tokens += tokens
        return decoding + tokens, decoding + complete, attention_s

    def _price_decode_run(self) -> bool:
        """Make the run as many decode steps as are alike; whether anything decodes at all."""
        clock = self._clock
        widest = total = running = 0
        attention_s = growth_s = 0.0
        limit = inf
        for rank in self._ranks:
            decoding = rank.n_in_step = rank.n_decoding
            running += len(rank.running)
            if not decoding:
                continue
            total += decoding
            widest = max(widest, decoding)
            length = rank.context_tokens / decoding
            rank_s, slope_s, knot = clock.decode[decoding].line(length)
            room = (rank.capacity_tokens - rank.held_tokens) // decoding + 1
            limit = min(limit, rank.next_finish_step - rank.decode_step, room, (knot - length) // 1 + 1)
            if rank_s > attention_s or (rank_s == attention_s and slope_s > growth_s):
                attention_s, growth_s = rank_s, slope_s
        if not total:
            return False
        run = self._run
        run.first_s = clock.tokens_s(widest, total, widest, running) + attention_s
        run.growth_s = growth_s
        if not self._options.jump_decode_runs:
            run.n_steps = 1
            return True
        if len(self._ranks) > 1:
            limit = min(limit, self._steps_led(attention_s, growth_s))
        run.n_steps = int(limit)
        if self._next_arrival_s < run.end_of(run.n_steps):
            self._stop_for_arrival()
        return True

    def _steps_led(self, attention_s: float, growth_s: float) -> float:
        """Decode steps for which the rank with these attention seconds and growth stays the slowest."""
        steps = inf
        for rank in self._ranks:
            if rank.n_decoding:
                rank_s, slope_s, _ = self._clock.decode[rank.n_decoding].line(
                    rank.context_tokens / rank.n_decoding
                )
                if slope_s > growth_s:
                    steps = min(steps, (attention_s - rank_s) / (slope_s - growth_s) // 1 + 1)
        return steps

    def _stop_for_arrival(self) -> None:
        """End the run with the step after which the next arrival is seen, unless no rank has a slot for it."""
        if all(len(rank.running) >= rank.max_running for rank in self._ranks):
            return
        run = self._run
        seen = run.first_end_from(self._next_arrival_s) + self._options.pipeline_depth - 1
        run.n_steps = max(min(run.n_steps, seen), 1)

    def _account(self) -> None:
        """Count in the run that has just ended."""
        run = self._run
        n_steps = run.n_steps
        end_s = run.end_of(n_steps)
        self._now_s = end_s
        self._horizon_s = end_s if self._options.pipeline_depth == 1 else run.end_of(n_steps - 1)
        counters = self.counters
        counters.steps += n_steps
        counters.busy_s += end_s - run.start_s
        weight = decoding = 0
        for rank in self._ranks:
            if rank.n_in_step:
                decoding += rank.n_in_step
                weight += self._account_decode(rank)
            counters.kv_peak_tokens = max(counters.kv_peak_tokens, rank.held_tokens - rank.n_in_step)
            if rank.n_in_step and rank.decode_step == rank.next_finish_step:
                for request in rank.finish_due():
                    self._finish(request)
            if rank.chunks:
                self._complete_prompts(rank)
        if decoding:
            counters.decode_steps += n_steps
            counters.sequence_steps += n_steps * decoding
        if weight:
            self.segments.append((run.first_s, run.growth_s, n_steps, weight))

    def _account_decode(self, rank: Rank) -> int:
        """Count in the decode steps of a rank; its sequences whose gaps are the steps themselves."""
        run = self._run
        rank.decode(run.n_steps)
        gaps = rank.gaps
        gaps.last_decode_s = self._now_s
        if not gaps.stalled:
            return rank.n_in_step
        gaps.end_stall(run.end_of(1), rank.n_in_step)
        if run.n_steps > 1:
            self.segments.append((run.first_s + run.growth_s, run.growth_s, run.n_steps - 1, rank.n_in_step))
        return 0

    def _complete_prompts(self, rank: Rank) -> None:
        """Let the requests whose prompts are complete have their first token, or the next one after a preemption."""
        ledger = self._ledger
        n_joined = 0
        for request in rank.compute(rank.chunks):
            if isnan(ledger.first_token_s[request]):
                ledger.first_token_s[request] = self._now_s
            else:
                rank.gaps.resume(request, self._now_s)
            if ledger.left[request] == 1:
                rank.finish_at_once(request)
                self._finish(request)
            else:
                rank.start_decoding(request)
                n_joined += 1
        if self._policy.stalls_decode:
            rank.gaps.stall(self._now_s, n_joined)
        rank.chunks = []

    def _finish(self, request: int) -> None:
        self._ledger.finish_s[request] = self._now_s
        self._on_finish(request, self._now_s)
