"""One serving engine as a simpy process: one event a step, or one for a run of decode steps that are alike.

This is the life of an engine: requests come through a serial front end, the policy fills a step, the step
passes, its tokens are counted in. What a step costs and does to the ranks is left to `SoloEngine` and
`LockstepEngine`. A run of decode steps ends where something could change: a sequence finishes, a request
arrives that could be admitted, the cache is full, or attention leaves a straight piece of its table. A
request that reaches another replica's engine in the middle of such a run cuts it short at the end of the step
in progress.
"""

from abc import ABC, abstractmethod
from bisect import insort
from collections import deque
from collections.abc import Callable, Generator
from math import inf
from typing import Any

import numpy as np
from simpy import Environment, Event, Interrupt

from simulator.serving.clock import StepClock
from simulator.serving.options import EngineOptions
from simulator.serving.rank import Ledger, Rank
from simulator.serving.run import Run


class Engine(ABC):
    """A replica: attention ranks in lockstep behind one serial front end.

    `on_finish(request, time_s)` is called for every request that ends, while the engine stands between two
    steps.
    """

    def __init__(
        self,
        env: Environment,
        clock: StepClock,
        options: EngineOptions,
        ledger: Ledger,
        on_finish: Callable[[int, float], None] | None,
        rng: np.random.Generator,
    ) -> None:
        self.ranks = [Rank(ledger, options.limits) for _ in range(clock.n_ranks)]
        self.log: list[float] = []  # see `RunLog`
        self.n_prefill_steps = 0
        self.n_prefill_tokens = 0
        self.n_preemptions = 0
        self._env = env
        self._clock = clock
        self._options = options
        self._policy = options.policy
        self._stalls_decode = options.policy.stalls_decode
        self._jumps = options.jump_decode_runs
        self._lag_steps = options.pipeline_depth - 1
        self._frontend_s_per_token = options.frontend_s_per_token
        self._ledger = ledger
        self._on_finish = on_finish
        self._rng = rng
        self._n_routed = 0
        self._pending: deque[tuple[float, int]] = deque()  # (sent, request), not yet through the front end
        self._frontend_free_s = 0.0
        self._next_arrival_s = inf
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
        if not self._pending:
            self._next_arrival_s = inf
            return
        start_s, request = self._pending[0]
        if start_s < self._frontend_free_s:
            start_s = self._frontend_free_s
        self._next_arrival_s = start_s + self._frontend_s_per_token * self._ledger.prompt[request]

    def _take_arrivals(self) -> None:
        """Queue every request that the next step may see at the rank it is routed to."""
        ranks = self.ranks
        while self._next_arrival_s <= self._horizon_s:
            _, request = self._pending.popleft()
            self._frontend_free_s = self._next_arrival_s
            rank = ranks[0] if len(ranks) == 1 else self._route()
            rank.waiting.append(request)
            self._expect_next()

    def _route(self) -> Rank:
        ranks = self.ranks
        if self._options.rank_routing == "least_loaded":
            return min(ranks, key=lambda rank: len(rank.waiting) + len(rank.running))
        if self._options.rank_routing == "random":
            return ranks[int(self._rng.integers(len(ranks)))]
        self._n_routed += 1
        return ranks[(self._n_routed - 1) % len(ranks)]

    def _serve(self) -> Generator[Event, Any, None]:
        timeout, run = self._env.timeout, self._run
        lagging, shared = self._lag_steps > 0, self._shares_client
        while True:
            if self._next_arrival_s <= self._horizon_s:
                self._take_arrivals()
            start_s = run.start_s = run.end_s
            if not self._next_run():
                if self._next_arrival_s == inf and not shared:
                    return
                yield from self._idle()
                continue
            if shared and run.n_steps > 1:
                yield from self._wait_interruptibly()
            else:
                yield timeout(run.end_s - start_s)
            self._horizon_s = run.end_of(run.n_steps - 1) if lagging else run.end_s
            self._account()

    def _idle(self) -> Generator[Event, Any, None]:
        """Wait for the next request to leave the front end, or for one to be sent."""
        assert not any(rank.waiting or rank.partial for rank in self.ranks), "the policy never runs a request"
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
        self._run.end_s = self._horizon_s = max(self._run.end_s, arrival_s)

    def _wait_interruptibly(self) -> Generator[Event, Any, None]:
        """Wait for the end of the run, which a request sent meanwhile may bring forward."""
        run = self._run
        while True:
            self._interruptible = True
            try:
                yield self._env.timeout(max(run.end_s - self._env.now, 0.0))
            except Interrupt:
                self._stop_for_arrival()
            else:
                self._interruptible = False
                return

    def _make_room(self, rank: Rank) -> None:
        """Preempt until the cache holds what the next decode step needs."""
        while rank.held_tokens > rank.capacity_tokens:
            rank.preempt(self._policy.victim(rank), self._policy.requeue_at_head)
            self.n_preemptions += 1

    @abstractmethod
    def _next_run(self) -> bool:
        """Fill the next step and price it, or a run of decode steps; whether there is anything to do."""

    @abstractmethod
    def _account(self) -> None:
        """Count in the run that has just ended."""

    def _stop_for_arrival(self) -> None:
        """End the run where the next arrival is seen, unless it finds no slot and is routed blindly."""
        full = all(len(rank.running) >= rank.max_running for rank in self.ranks)
        if not full or self._options.rank_routing == "least_loaded":
            self._run.stop_for(self._next_arrival_s, self._lag_steps)

    def _complete_prompts(self, rank: Rank) -> None:
        """Give requests with complete prompts their first token, or the next one after a preemption."""
        ledger, now_s = self._ledger, self._run.end_s
        n_joined = 0
        for request in rank.completing:
            if ledger.first_token_s[request] < 0.0:
                ledger.first_token_s[request] = now_s
            else:
                rank.gaps.resume(request, now_s)
            if ledger.left[request] == 1:
                rank.finish_at_once(request)
                self._finish(request, now_s)
            else:
                rank.start_decoding(request)
                n_joined += 1
        if self._stalls_decode:
            rank.gaps.stall(now_s, n_joined)
        rank.chunks = []

    def _finish_due(self, rank: Rank) -> None:
        """Let the requests end whose last token came with the decode step just counted in."""
        now_s = self._run.end_s
        finish_s, on_finish = self._ledger.finish_s, self._on_finish
        for request in rank.finish_due():
            finish_s[request] = now_s
            if on_finish is not None:
                on_finish(request, now_s)

    def _finish(self, request: int, now_s: float) -> None:
        self._ledger.finish_s[request] = now_s
        if self._on_finish is not None:
            self._on_finish(request, now_s)
