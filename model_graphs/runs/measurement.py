"""What a measured step is: the machine, what was run on it and how, its times, its energy and its spans.

The spans are those of a simulated step (`runs.records`), so that the two are compared like with like; this
record adds what only a measurement has: repeats and their spread, the recorder's own cost, a date.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict, with_config

from model_graphs.graph import Stream
from model_graphs.runs.records import Span, StepRun

SCHEMA_VERSION = 1

Caches = Literal["warm", "cold"]

_STRICT = ConfigDict(extra="forbid")  # in a trace file an unknown key is an error


@with_config(_STRICT)
@dataclass(frozen=True)
class Machine:
    """Where a step ran: the device as it names itself, and the software that drove it."""

    device: Literal["cpu", "cuda"]
    name: str
    memory_bytes: int | None  # None where the system does not say
    cache_bytes: int | None  # last level; None likewise
    n_threads: int
    torch_version: str
    platform: str


@with_config(_STRICT)
@dataclass(frozen=True)
class Subject:
    """What ran: a model of random weights, how much of it, and the sizes of the step."""

    model: str
    width: Literal["narrow", "full"]
    n_layers: int
    phase: str
    batch: int
    new_tokens: int
    past_tokens: int
    dtype: str
    seed: int
    placement: str = ""  # the plan under which the model lay; empty: all of it on the device


@with_config(_STRICT)
@dataclass(frozen=True)
class Protocol:
    """How it was measured. Cold caches hold none of the step's data when it starts.

    `load_average` is the number of processes that wanted a processor in the minute before, where the system
    counts them: a machine that others use measures them too.
    """

    date: str
    warm_up: int
    repeats: int
    caches: Caches
    load_average: float | None


@with_config(_STRICT)
@dataclass(frozen=True)
class Spread:
    """The median of repeated readings in seconds, with the shortest and the longest."""

    median_s: float
    low_s: float
    high_s: float


@with_config(_STRICT)
@dataclass(frozen=True)
class EnergyReading:
    """Joules of one step by a method; None, never zero, where they could not be read, and why."""

    joules: float | None
    method: str
    reason: str = ""


@dataclass(frozen=True)
class MeasuredStep:
    """A measured step.

    `crossing_bytes` is what a placement plan makes cross in one step, by `from>to`.

    `plain` is the step as it runs alone, `recorded` the same under the recorder, whose spans are in `run`:
    each lasts its median over the repeats and follows its predecessor after the median gap. `spreads` holds
    the readings behind each span, in the same order.
    """

    machine: Machine
    subject: Subject
    protocol: Protocol
    input_hash: str
    plain: Spread
    recorded: Spread
    energy: EnergyReading
    run: StepRun
    spreads: tuple[Spread, ...]
    crossing_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def recording_overhead_fraction(self) -> float:
        """What recording adds to the step, as a fraction of its plain latency."""
        return self.recorded.median_s / self.plain.median_s - 1.0


def measured_span(
    name: str, kind: str, component: str, start_s: float, duration_s: float, flop: float, traffic_bytes: float
) -> Span:
    """A span of a measured step: one rank, one stream, no bound and no energy of its own."""
    return Span(
        name=name,
        kind=kind,
        component=component,
        rank=0,
        stream=Stream.COMPUTE,
        start_s=start_s,
        end_s=start_s + duration_s,
        flop=flop,
        traffic_bytes=traffic_bytes,
        energy_j=None,
    )
