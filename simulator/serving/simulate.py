"""A workload served by replicas of an engine, from the first request to the last token.

The client is here: it sends requests at their times, or keeps a closed loop of clients busy, and gives them
to the replicas in turn. Times in the result are what the client sees.
"""

from typing import TypeVar

import numpy as np
from simpy import Environment

from hardware_specs.records.errors import InfeasibleError
from model_graphs.runs.records import FloatArray, RequestTable, ServingRun
from simulator.serving.clock import StepClock
from simulator.serving.engine import Engine
from simulator.serving.lockstep import LockstepEngine
from simulator.serving.options import EngineOptions
from simulator.serving.rank import Ledger
from simulator.serving.run import RunLog, expand
from simulator.serving.solo import SoloEngine
from simulator.serving.workload import Requests
from simulator.step.table import StepTable

Number = TypeVar("Number", float, FloatArray)


def simulate_serving(
    table: StepTable, options: EngineOptions, requests: Requests, seed: int = 0
) -> ServingRun:
    """Every request of a workload with the times its client saw, the gaps between tokens, and counters.

    `queue_s` runs from sending to the start of the step with the request's first chunk, front end included.
    `seed` draws the ranks of random routing, for each replica apart; nothing else here is random.

    Raises:
        InfeasibleError: a request can never be served within the engine's limits.
    """
    check_servable(options, requests)
    run = Simulation(table, options, requests, seed)
    run.env.run()
    return run.result()


def check_servable(options: EngineOptions, requests: Requests) -> None:
    """Refuse a workload with a request that the engine could never serve.

    Raises:
        InfeasibleError: it exceeds the KV cache, or the step where prompts are not cut.
    """
    longest = int((requests.input_tokens + requests.output_tokens).max())
    if longest > options.kv_capacity_tokens:
        raise InfeasibleError(
            f"a request of {longest:,} tokens does not fit the KV cache of a rank; it holds "
            f"{options.kv_capacity_tokens:,} tokens"
        )
    resumes = options.reserve_fraction < 1  # with its output so far, if it was preempted
    longest = int((requests.input_tokens + resumes * (requests.output_tokens - 1)).max())
    if options.policy.whole_prompts and longest > options.step_tokens:
        raise InfeasibleError(
            f"a prompt of {longest:,} tokens does not fit a step of {options.step_tokens:,} tokens; "
            f"{type(options.policy).__name__} never cuts a prompt"
        )


class Simulation:
    """The client, the replicas behind it, and the record of what happened."""

    def __init__(self, table: StepTable, options: EngineOptions, requests: Requests, seed: int) -> None:
        self.env = Environment()
        self._options = options
        self._requests = requests
        sent_s = None if requests.arrival_s is None else requests.arrival_s.tolist()
        self._output: list[int] = requests.output_tokens.tolist()
        self._ledger = Ledger(requests.input_tokens.tolist(), self._output, sent_s)
        answered = None if requests.concurrency is None else self._answered
        clock = StepClock(table)
        kind = SoloEngine if table.dp == 1 else LockstepEngine
        self._engines: list[Engine] = [
            kind(self.env, clock, options, self._ledger, answered, np.random.default_rng([seed, replica]))
            for replica in range(options.replicas)
        ]
        self._n_sent = 0
        for at_s in sent_s or [0.0] * min(requests.concurrency or 0, len(requests)):
            self._send(at_s)

    def _send(self, at_s: float) -> None:
        """Send the next request to the replica whose turn it is."""
        request = self._n_sent
        self._n_sent += 1
        self._ledger.sent_s[request] = at_s
        self._engines[request % len(self._engines)].submit(request, at_s)

    def _answered(self, request: int, finish_s: float) -> None:
        """Let the client of a closed loop send its next request once it has seen this one's last token."""
        if self._n_sent < len(self._output):
            decode_s = finish_s - self._ledger.first_token_s[request]
            self._send(finish_s + self._delay_s(decode_s, max(self._output[request] - 1, 1)))

    def _delay_s(self, decode_s: Number, n_gaps: Number) -> Number:
        """How long the tokens of a request, or of many, are on their way to the client."""
        return self._options.first_token_s + self._options.stream_interval_steps * decode_s / n_gaps

    def result(self) -> ServingRun:
        """The run as the client saw it, requests in order of arrival."""
        ledger, requests = self._ledger, self._requests
        sent_s, first_token_s, finish_s, admitted_s = (
            np.array(column)
            for column in (ledger.sent_s, ledger.first_token_s, ledger.finish_s, ledger.admitted_s)
        )
        n_gaps = np.maximum(requests.output_tokens - 1, 1).astype(np.float64)
        delay_s = self._delay_s(finish_s - first_token_s, n_gaps)
        order = np.argsort(sent_s, kind="stable")
        table = RequestTable(
            arrival_s=sent_s[order],
            first_token_s=(first_token_s + delay_s)[order],
            finish_s=(finish_s + delay_s)[order],
            input_tokens=requests.input_tokens[order],
            output_tokens=requests.output_tokens[order],
            queue_s=(admitted_s - sent_s)[order],
        )
        log = RunLog.of([engine.log for engine in self._engines])
        itl_s, itl_weight = self._gaps(log)
        counters = self._counters(log)
        return ServingRun(
            requests=table,
            makespan_s=float(table.finish_s.max() - table.arrival_s[0]),
            n_steps=int(counters["steps"]),
            counters=counters,
            itl_s=itl_s,
            itl_weight=itl_weight,
        )

    def _gaps(self, log: RunLog) -> tuple[FloatArray, FloatArray]:
        """Every gap between tokens in seconds, and how many sequences saw it."""
        waits = [np.array(rank.gaps.rows) for engine in self._engines for rank in engine.ranks]
        gaps_s, weight = log.gaps()
        longer_s, longer_weight = expand(*np.concatenate(waits).reshape(-1, 4).T)
        return np.concatenate([gaps_s, longer_s]), np.concatenate([weight, longer_weight])

    def _counters(self, log: RunLog) -> dict[str, float]:
        """Sums over replicas; the peak of the cache is of one rank, the mean decode batch of one engine."""
        totals = log.counters()
        totals["prefill_steps"] = float(sum(engine.n_prefill_steps for engine in self._engines))
        totals["prefill_tokens"] = float(sum(engine.n_prefill_tokens for engine in self._engines))
        totals["preemptions"] = float(sum(engine.n_preemptions for engine in self._engines))
        totals["computed_tokens"] = totals["prefill_tokens"] + totals["sequence_steps"]
        totals["mean_decode_batch"] = totals["sequence_steps"] / max(totals["decode_steps"], 1.0)
        return totals
