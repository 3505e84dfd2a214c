"""The step program: timed operators in launch order, ready to be run on the streams of one or more ranks.

It is what pricing a graph leaves behind: no shapes and no formulas, only durations, dependencies and the
tallies (FLOP, bytes, joules) of one rank's execution of each operator. `simulator.engine` runs it; the
longest path, the breakdown and the trace read it or its run.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.graph import Stream

FloatArray = NDArray[np.float64]

#: the block-local dependency that stands for the last operator of the previous block instance
PREVIOUS_BLOCK = -1


@dataclass(frozen=True, slots=True)
class TimedOperator:
    """One operator with its price, on one in-order stream of every rank.

    `duration_s` is what it takes once started, alone on its link: one number for all ranks or one a rank.
    `deps` index earlier operators of the program. A collective starts when the last rank arrives. `launch_s`
    is the host's time to launch it; the host launches in program order. Tallies are those of one rank.
    """

    name: str
    kind: str
    component: str
    stream: Stream
    duration_s: float | tuple[float, ...]
    deps: tuple[int, ...] = ()
    collective: bool = False
    bound: str = ""
    flop: float = 0.0
    traffic_bytes: float = 0.0
    energy_j: float = 0.0
    launch_s: float = 0.0
    link: str = ""  # a `Link` of the program that the operator shares with other flows while it runs


@dataclass(frozen=True, slots=True)
class Link:
    """A link that flows share equally; every `ranks_per_link` neighbouring ranks have one of it."""

    name: str
    ranks_per_link: int = 1


@dataclass(frozen=True)
class StepProgram:
    """One step of `n_ranks` ranks in lockstep. The step lasts no less than `host_floor_s`.

    Raises:
        InputError: a duration, dependency, link or count that cannot be run, each named.
    """

    operators: tuple[TimedOperator, ...]
    n_ranks: int = 1
    host_floor_s: float = 0.0
    links: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        problems = [*_program_problems(self), *_operator_problems(self)]
        if problems:
            raise InputError(*problems)

    @cached_property
    def durations_s(self) -> FloatArray:
        """Durations by operator and rank, alone on their links, seconds."""
        rows = [np.broadcast_to(np.asarray(op.duration_s), self.n_ranks) for op in self.operators]
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.n_ranks)

    @cached_property
    def launched_s(self) -> FloatArray:
        """When the host of a rank has launched each operator, seconds."""
        return np.cumsum(np.array([op.launch_s for op in self.operators], dtype=np.float64))

    @property
    def shares_links_between_ranks(self) -> bool:
        """Whether flows of different ranks may meet on one link."""
        return any(link.ranks_per_link > 1 for link in self.links)


@dataclass(frozen=True, slots=True)
class TimedBlock:
    """Timed operators that repeat in a row; their `deps` are block-local and may hold `PREVIOUS_BLOCK`."""

    name: str
    repeat: int
    operators: tuple[TimedOperator, ...]


def unroll(blocks: Iterable[TimedBlock]) -> tuple[TimedOperator, ...]:
    """Every operator instance in program order, named `block.instance.operator`, with program-wide deps."""
    operators: list[TimedOperator] = []
    for block in blocks:
        for instance in range(block.repeat):
            operators.extend(_instance(block, instance, base=len(operators)))
    return tuple(operators)


def launched_one_by_one(operators: Sequence[TimedOperator], launch_s: float) -> tuple[TimedOperator, ...]:
    """The operators of a step without graph capture: the host launches each of them."""
    return tuple(replace(op, launch_s=launch_s) for op in operators)


def launched_once(operators: Sequence[TimedOperator], launch_s: float) -> tuple[TimedOperator, ...]:
    """The operators of a captured graph: one launch starts them all."""
    return tuple(replace(op, launch_s=0.0 if i else launch_s) for i, op in enumerate(operators))


def _instance(block: TimedBlock, instance: int, base: int) -> Iterator[TimedOperator]:
    for i, op in enumerate(block.operators):
        if not all(PREVIOUS_BLOCK <= dep < i for dep in op.deps):
            rule = "must depend on earlier operators of the block, or on -1, the previous block's last"
            raise InputError(Problem(rule, str(op.deps), path=f"{block.name}[{i}] {op.name}"))
        deps = sorted({base + dep for dep in op.deps if base + dep >= 0})
        yield replace(op, name=f"{block.name}.{instance}.{op.name}", deps=tuple(deps))


def _program_problems(program: StepProgram) -> Iterator[Problem]:
    if program.n_ranks < 1:
        yield Problem("must be at least 1", str(program.n_ranks), path="n_ranks")
    if not _is_time(program.host_floor_s):
        yield Problem("must be a finite time of at least 0 s", str(program.host_floor_s), path="host_floor_s")
    for link in program.links:
        if link.ranks_per_link < 1:
            path = f"links.{link.name}.ranks_per_link"
            yield Problem("must be at least 1", str(link.ranks_per_link), path=path)


def _operator_problems(program: StepProgram) -> Iterator[Problem]:
    links = [link.name for link in program.links]
    for i, op in enumerate(program.operators):
        path = f"operators[{i}] {op.name}"
        durations = op.duration_s if isinstance(op.duration_s, tuple) else (op.duration_s,)
        if isinstance(op.duration_s, tuple) and len(durations) != program.n_ranks:
            yield Problem(
                f"needs a duration for each of {program.n_ranks} ranks", str(len(durations)), path=path
            )
        if not all(map(_is_time, durations)):
            yield Problem("duration must be a finite time of at least 0 s", str(op.duration_s), path=path)
        if not _is_time(op.launch_s):
            yield Problem("launch must be a finite time of at least 0 s", str(op.launch_s), path=path)
        if not all(0 <= dep < i for dep in op.deps):
            yield Problem("must depend on earlier operators only", str(op.deps), path=path)
        if op.link and op.link not in links:
            hint = nearest(op.link, links)
            yield Problem("must name a link of the program", op.link, path=path, suggestion=hint)


def _is_time(value: float) -> bool:
    return isfinite(value) and value >= 0.0
