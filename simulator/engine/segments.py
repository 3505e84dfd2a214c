"""Segments: a stream's operators cut where another stream, rank or flow can interfere, and nowhere else.

Inside a segment the operators follow each other with nothing left to decide, so one simpy event runs them.
With `start` the moment the segment may start, operator k of it ends at

    max(start, floor_k) + elapsed_k,    floor_k = max over j <= k of (launched_j - elapsed_before_j)

which holds for any launch times; with nothing to launch, `floor_k` is zero.
"""

from collections.abc import Mapping, Sequence
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


def cut(program: StepProgram) -> Mapping[Stream, tuple[Segment, ...]]:
    """The segments of each stream that has any, in order."""
    waits = _waits(program.operators)
    awaited = {dep for deps in waits for dep in deps}
    return {
        stream: _segments(indices, program.operators, waits, awaited)
        for stream in Stream
        if (indices := [i for i, op in enumerate(program.operators) if op.stream is stream])
    }


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
            if pair[0] is not pair[1] and dep > seen.get(pair, -1):
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
class SegmentTiming:
    """The operators of a segment in time, by operator and rank, relative to a start that is not yet known."""

    elapsed_s: FloatArray  # from the first start to each end, with no launch in between
    elapsed_before_s: FloatArray  # the same to each start
    floor_s: FloatArray  # the earliest segment start that the launches so far allow

    @classmethod
    def of(cls, segment: Segment, durations_s: FloatArray, launched_s: FloatArray) -> "SegmentTiming":
        """The timing of a segment of a program with these durations by operator and rank, and launches."""
        rows = list(segment.operators)
        elapsed_s = np.add.accumulate(durations_s[rows], axis=0)
        before_s = np.vstack([np.zeros((1, elapsed_s.shape[1])), elapsed_s[:-1]])
        floor_s = np.maximum.accumulate(launched_s[rows, np.newaxis] - before_s, axis=0)
        return cls(elapsed_s, before_s, np.maximum(floor_s, 0.0))
