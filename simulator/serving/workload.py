"""Who sends what when: the requests of a workload, drawn once from its seed.

Every stochastic source (arrivals, input lengths, output lengths) has a generator of its own, so that changing
one law leaves the draws of the others as they were. The reply times that pace a closed loop come from the
engine.
"""

from dataclasses import dataclass

import numpy as np

from hardware_specs.records.errors import InputError, Problem
from model_graphs.runs.records import FloatArray, IntArray
from simulator.scenario.model import Burst, ClosedLoop, Lengths, Poisson, TraceReplay, Workload
from simulator.scenario.trace import read_trace

#: prompts a client of a closed loop sends where the workload states no total, as serving benchmarks do
PROMPTS_PER_CLIENT = 10


@dataclass(frozen=True)
class Requests:
    """Requests in the order they are sent: either with arrival times, or paced by `concurrency` clients.

    `problems` are the rows of a trace that could not be read and are left out.
    """

    input_tokens: IntArray
    output_tokens: IntArray
    arrival_s: FloatArray | None = None
    concurrency: int | None = None
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        problems = [*self._length_problems(), *self._pace_problems()]
        if problems:
            raise InputError(*problems)

    def __len__(self) -> int:
        return len(self.input_tokens)

    def _length_problems(self) -> list[Problem]:
        columns = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        problems = [
            Problem(path=name, requirement="every request needs one token or more", given=str(column.min()))
            for name, column in columns.items()
            if len(column) and column.min() < 1
        ]
        if not len(self.input_tokens) or len(self.input_tokens) != len(self.output_tokens):
            given = f"{len(self.input_tokens)} and {len(self.output_tokens)}"
            problems.append(
                Problem(requirement="input and output lengths must pair up, one at least", given=given)
            )
        return problems

    def _pace_problems(self) -> list[Problem]:
        if (self.arrival_s is None) == (self.concurrency is None):
            return [
                Problem(
                    requirement="requests are paced by arrival times or by concurrency, exactly one of them"
                )
            ]
        if self.concurrency is not None:
            valid = self.concurrency >= 1
            return [] if valid else [Problem(path="concurrency", requirement="must be 1 or more")]
        arrival_s = np.asarray(self.arrival_s)
        if (
            len(arrival_s) != len(self)
            or not np.isfinite(arrival_s).all()
            or (np.diff(arrival_s, prepend=0) < 0).any()
        ):
            return [
                Problem(path="arrival_s", requirement="one finite time a request, from zero on and in order")
            ]
        return []


def generate(workload: Workload, seed: int | None = None) -> Requests:
    """The requests of a workload; the same seed (the workload's own by default) gives the same requests.

    Raises:
        InputError: lengths are missing without a trace, or the trace cannot be read.
    """
    arrivals = workload.arrivals
    if isinstance(arrivals, TraceReplay):
        return _replay(arrivals)
    if workload.input_tokens is None or workload.output_tokens is None:
        raise InputError(
            Problem(path="workload", requirement="input_tokens and output_tokens are needed without a trace")
        )
    roots = np.random.SeedSequence(workload.seed if seed is None else seed).spawn(3)
    arrival_rng, input_rng, output_rng = (np.random.default_rng(root) for root in roots)
    n_requests = _count(arrivals)
    return Requests(
        input_tokens=draw_lengths(workload.input_tokens, n_requests, input_rng),
        output_tokens=draw_lengths(workload.output_tokens, n_requests, output_rng),
        arrival_s=_arrival_s(arrivals, n_requests, arrival_rng),
        concurrency=arrivals.concurrency if isinstance(arrivals, ClosedLoop) else None,
    )


def draw_lengths(lengths: Lengths, n_requests: int, rng: np.random.Generator) -> IntArray:
    """Tokens of `n_requests` requests, each one or more.

    `uniform` covers the integers from `low_fraction * mean` (rounded down) to `mean`, both ends included, as
    the benchmark clients draw them; `lognormal` is scaled so that the mean of the law is `mean`.
    """
    if lengths.law == "fixed":
        return np.full(n_requests, lengths.mean, dtype=np.int64)
    if lengths.law == "uniform":
        low = max(int(lengths.mean * lengths.low_fraction), 1)
        return rng.integers(low, lengths.mean + 1, n_requests, dtype=np.int64)
    location = np.log(lengths.mean) - lengths.sigma**2 / 2
    drawn = np.rint(rng.lognormal(location, lengths.sigma, n_requests))
    return np.maximum(drawn, 1).astype(np.int64)


def _count(arrivals: ClosedLoop | Poisson | Burst) -> int:
    if arrivals.requests is not None:
        return arrivals.requests
    assert isinstance(arrivals, ClosedLoop)
    return PROMPTS_PER_CLIENT * arrivals.concurrency


def _arrival_s(
    arrivals: ClosedLoop | Poisson | Burst, n_requests: int, rng: np.random.Generator
) -> FloatArray | None:
    if isinstance(arrivals, ClosedLoop):
        return None
    if isinstance(arrivals, Burst):
        return np.zeros(n_requests)
    return np.cumsum(rng.exponential(1 / arrivals.rate_per_s, n_requests))


def _replay(replay: TraceReplay) -> Requests:
    trace = read_trace(replay.path)
    if not trace.rows:
        raise InputError(
            *trace.problems or (Problem(file=replay.path, requirement="must hold one request or more"),)
        )
    rows = trace.rows[: replay.max_requests]
    return Requests(
        input_tokens=np.array([row.input_tokens for row in rows], dtype=np.int64),
        output_tokens=np.array([row.output_tokens for row in rows], dtype=np.int64),
        arrival_s=np.array([row.arrival_s for row in rows]) / replay.rate_scale,
        problems=trace.problems,
    )
