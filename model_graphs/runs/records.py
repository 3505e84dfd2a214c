"""Records that a simulated and a measured run share, so that validation compares like with like."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """One operator on one stream of one rank, in seconds from the start of the step.

    `energy_j` is None where nobody could read it: a meter sees a whole step, never one operator.
    """

    name: str
    kind: str
    component: str
    rank: int
    stream: str
    start_s: float
    end_s: float
    bound: str = ""
    flop: float = 0.0
    traffic_bytes: float = 0.0
    energy_j: float | None = 0.0


@dataclass(frozen=True)
class StepRun:
    """One prefill or decode step at operator level: spans in start order and the makespan."""

    spans: tuple[Span, ...]
    makespan_s: float
    n_ranks: int


@dataclass(frozen=True)
class RequestTable:
    """Per-request columns of a serving run, one row a request in order of arrival. Times in seconds."""

    arrival_s: FloatArray
    first_token_s: FloatArray
    finish_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    queue_s: FloatArray

    @property
    def ttft_s(self) -> FloatArray:
        """First token minus request sent."""
        return self.first_token_s - self.arrival_s

    @property
    def tpot_s(self) -> FloatArray:
        """(last - first) / (output tokens - 1); nan where there is one output token."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        return (self.finish_s - self.first_token_s) / gaps

    @property
    def e2e_s(self) -> FloatArray:
        """Last token minus request sent."""
        return self.finish_s - self.arrival_s


@dataclass(frozen=True)
class ServingRun:
    """A serving run: requests, decode-gap segments, counters. The same record for simulated and measured."""

    requests: RequestTable
    makespan_s: float
    n_steps: int
    counters: Mapping[str, float] = field(default_factory=dict)
    itl_s: FloatArray | None = None
    itl_weight: FloatArray | None = None
