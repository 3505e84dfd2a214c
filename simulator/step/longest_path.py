"""The step's end as a longest path: the max-plus recursion over operators, without events.

Independent of the event engine, and equal to it where no link is shared. Durations may carry trailing axes,
so that one pass over the operators prices many configurations or token counts at once. Where links are shared
it is a lower bound: every flow has its link to itself.
"""

from dataclasses import dataclass

import numpy as np

from model_graphs.graph import Stream
from simulator.step.program import FloatArray, StepProgram


@dataclass(frozen=True, slots=True)
class CriticalOperator:
    """One link of the chain that sets the makespan; `gap_s` is the wait for its launch before it starts."""

    operator: int
    rank: int
    gap_s: float


def longest_path_s(program: StepProgram, durations_s: FloatArray | None = None) -> FloatArray:
    """Makespans in seconds, one for each point of the trailing axes of `durations_s` (none: a single number).

    `durations_s` has the shape [operators, ranks or 1, ...] and stands in for the program's own.
    """
    ends_s = end_times_s(program, program.durations_s if durations_s is None else durations_s)
    last_s = ends_s.max(axis=(0, 1), initial=0.0)
    return np.asarray(np.maximum(last_s, program.host_floor_s))


def end_times_s(program: StepProgram, durations_s: FloatArray) -> FloatArray:
    """When every operator ends: [operators, ranks or 1, ...], seconds.

    Raises:
        ValueError: the leading axes are not operators and ranks.
    """
    shape, n_operators = durations_s.shape, len(program.operators)
    if len(shape) < 2 or shape[0] != n_operators or shape[1] not in (1, program.n_ranks):
        wanted = f"[{n_operators}, {program.n_ranks} or 1, ...]"
        raise ValueError(f"durations_s must have the shape {wanted}; given {list(shape)}")
    end_s = np.empty(shape)
    launched_s = program.launched_s
    for i, (op, before) in enumerate(zip(program.operators, _predecessors(program), strict=True)):
        start_s = np.full(shape[1:], launched_s[i])
        for j in before:
            np.maximum(start_s, end_s[j], out=start_s)
        if op.collective:
            start_s = start_s.max(axis=0, keepdims=True)
        np.add(start_s, durations_s[i], out=end_s[i])
    return end_s


def critical_path(program: StepProgram) -> tuple[CriticalOperator, ...]:
    """The chain of operators, first to last, whose durations and gaps add up to the last operator's end."""
    if not program.operators:
        return ()
    end_s = end_times_s(program, program.durations_s)
    before = _predecessors(program)
    i, rank = (int(axis) for axis in np.unravel_index(end_s.argmax(), end_s.shape))
    path = []
    while True:
        ranks = range(program.n_ranks) if program.operators[i].collective else (rank,)
        reached = max(((float(end_s[j, r]), j, r) for j in before[i] for r in ranks), default=(0.0, -1, 0))
        start_s = max(reached[0], float(program.launched_s[i]))
        path.append(CriticalOperator(i, rank, start_s - reached[0]))
        _, i, rank = reached
        if i < 0:
            return tuple(reversed(path))


def _predecessors(program: StepProgram) -> list[tuple[int, ...]]:
    """What each operator follows: its dependencies and the operator before it on its stream."""
    last: dict[Stream, int] = {}
    before = []
    for i, op in enumerate(program.operators):
        before.append(tuple({*op.deps, last[op.stream]} if op.stream in last else op.deps))
        last[op.stream] = i
    return before
