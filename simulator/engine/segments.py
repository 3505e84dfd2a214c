"""Segments: a stream's operators cut where another stream, rank or flow can interfere, and nowhere else.

Inside a segment the operators follow each other with nothing left to decide, so one simpy event runs them.
With `start` the moment the segment may start, operator k of it ends at

    max(start, floor_k) + elapsed_k,    floor_k = max over j <= k of (launched_j - elapsed_before_j)

which holds for any launch times; with nothing to launch, the floors are zero.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from model_graphs.graph import Stream
from simulator.step.program import FloatArray, StepProgram, TimedOperator


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive operators of one stream, and what the first of them waits for."""

    operators: tuple[int, ...]
    waits: tuple[int, ...]  # operators of other streams, each the last of its segment
    awaited: bool  # another stream waits for the last operator
    collective: bool
    link: str


def cut(program: StepProgram) -> tuple[tuple[Segment, ...], ...]:
    """The segments of each stream that has any, in order."""
    waits = _waits(program.operators)
    awaited = {dep for deps in waits for dep in deps}
    streams: dict[Stream, list[int]] = {}
    for i, op in enumerate(program.operators):
        streams.setdefault(op.stream, []).append(i)
    return tuple(_segments(each, program.operators, waits, awaited) for each in streams.values())


def _waits(operators: Sequence[TimedOperator]) -> list[tuple[int, ...]]:
    """What each operator waits for beyond its stream's order: its latest dependency on every other stream.

    Streams are in order, so a stream that has waited for an operator need not wait for an earlier one.
    """
    seen: dict[tuple[Stream, Stream], int] = {}
    waits = []
    for op in operators:
        new = []
        for dep in sorted(op.deps, reverse=True):
            pair = (op.stream, operators[dep].stream)
            if pair[0] != pair[1] and dep > seen.get(pair, -1):
                seen[pair] = dep
                new.append(dep)
        waits.append(tuple(new))
    return waits


def _segments(
    indices: Sequence[int],
    operators: Sequence[TimedOperator],
    waits: Sequence[tuple[int, ...]],
    awaited: set[int],
) -> tuple[Segment, ...]:
    runs: list[list[int]] = []
    after_cut = True
    for i in indices:
        alone = operators[i].collective or bool(operators[i].link)
        if after_cut or alone or waits[i]:
            runs.append([])
        runs[-1].append(i)
        after_cut = alone or i in awaited
    return tuple(
        Segment(
            tuple(run),
            waits[run[0]],
            run[-1] in awaited,
            operators[run[0]].collective,
            operators[run[0]].link,
        )
        for run in runs
    )


@dataclass(frozen=True, slots=True)
class Timetable:
    """Every operator in time, by operator and rank, relative to a start of its segment yet to be known."""

    elapsed_s: FloatArray  # from the first operator's start to each end, with no launch in between
    elapsed_before_s: FloatArray  # the same to each start
    floor_s: FloatArray  # the earliest start of the segment that the launches so far allow

    @classmethod
    def of(cls, segments: Iterable[Segment], durations_s: FloatArray, launched_s: FloatArray) -> "Timetable":
        """The timetable of these segments: all their second operators at once, then all third ones, ..."""
        elapsed_s, before_s = durations_s.copy(), np.zeros_like(durations_s)
        floor_s = np.broadcast_to(launched_s[:, np.newaxis], durations_s.shape).copy()
        chains, place = [each.operators for each in segments], 1
        while chains := [chain for chain in chains if len(chain) > place]:
            rows, previous = [chain[place] for chain in chains], [chain[place - 1] for chain in chains]
            before_s[rows] = elapsed_s[previous]
            elapsed_s[rows] += before_s[rows]
            floor_s[rows] = np.maximum(floor_s[previous], floor_s[rows] - before_s[rows])
            place += 1
        return cls(elapsed_s, before_s, floor_s)

    def started(self, segment_start_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Start and end of every operator, given the start of its segment, both by operator and rank."""
        begin_s = np.maximum(segment_start_s, self.floor_s)
        return begin_s + self.elapsed_before_s, begin_s + self.elapsed_s
