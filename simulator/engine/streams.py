"""Runs a step program in simpy: one process for each in-order stream of each rank.

A stream takes its operators in program order. It waits for what other streams must have finished, meets the
other ranks at a collective, shares a link with other flows, and otherwise lets a whole segment pass in one
event. Ranks whose durations are all equal behave alike and are run once. Simulated time is in seconds.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import simpy

from model_graphs.runs.records import Span, StepRun
from simulator.engine.links import SharedLink
from simulator.engine.segments import Segment, Timetable, cut
from simulator.step.program import FloatArray, StepProgram


@dataclass(frozen=True, slots=True)
class StepTimes:
    """When every operator started and ended, by operator and rank, and when the step ended, seconds."""

    start_s: FloatArray
    end_s: FloatArray
    makespan_s: float


def run_step(program: StepProgram) -> StepRun:
    """The step as spans in start order, with the makespan."""
    times = step_times(program)
    starts, ends = times.start_s.ravel(), times.end_s.ravel()
    order = np.lexsort((ends, starts))  # stable: ties stay in program order, then by rank
    operators, ranks = np.divmod(order, program.n_ranks)
    columns = (column.tolist() for column in (operators, ranks, starts[order], ends[order]))
    spans = tuple(_span(program, *row) for row in zip(*columns, strict=True))
    return StepRun(spans, times.makespan_s, program.n_ranks)


def step_times(program: StepProgram) -> StepTimes:
    """The start and end of every operator on every rank, without the records."""
    representatives, class_of_rank = _rank_classes(program)
    start_s, end_s = _Simulation(program, representatives).run()
    makespan_s = max(float(end_s.max(initial=0.0)), program.host_floor_s)
    return StepTimes(start_s[:, class_of_rank], end_s[:, class_of_rank], makespan_s)


def _rank_classes(program: StepProgram) -> tuple[list[int], list[int]]:
    """One rank of each set that behaves alike, and for every rank the position of its stand-in."""
    if program.shares_links_between_ranks:
        everyone = list(range(program.n_ranks))
        return everyone, everyone
    columns = [column.tobytes() for column in program.durations_s.T]
    position = {column: i for i, column in enumerate(dict.fromkeys(columns))}
    return [columns.index(column) for column in position], [position[column] for column in columns]


class _Meeting:
    """Where the ranks of a collective wait for the last of them."""

    def __init__(self, env: simpy.Environment, n_ranks: int) -> None:
        self._everyone_here = env.event()
        self._n_missing = n_ranks

    def arrive(self) -> simpy.Event:
        """The event of the last rank's arrival, which this one may be."""
        self._n_missing -= 1
        if not self._n_missing:
            self._everyone_here.succeed()
        return self._everyone_here


class _Lane:
    """A segment on every simulated rank: its timing going in, its start and end coming out."""

    def __init__(
        self, env: simpy.Environment, segment: Segment, floor_s: Sequence[float], elapsed_s: Sequence[float]
    ) -> None:
        n_ranks = len(floor_s)
        self.segment = segment
        self.floor_s = floor_s
        self.elapsed_s = elapsed_s
        self.start_s = [0.0] * n_ranks
        self.end_s = [0.0] * n_ranks
        self.done = [env.event() for _ in range(n_ranks)] if segment.awaited else []
        self.meeting = _Meeting(env, n_ranks) if segment.collective else None


class _Simulation:
    """One run of the program on the ranks given, each standing for all ranks like it."""

    def __init__(self, program: StepProgram, ranks: Sequence[int]) -> None:
        self._env = simpy.Environment()
        self._ranks = ranks
        streams = cut(program)
        segments = [segment for segments in streams for segment in segments]
        self._table = Timetable.of(segments, program.durations_s[:, ranks], program.launched_s)
        floor_s, elapsed_s = self._table.floor_s.tolist(), self._table.elapsed_s.tolist()

        def lane(segment: Segment) -> _Lane:
            last = segment.operators[-1]
            return _Lane(self._env, segment, floor_s[last], elapsed_s[last])

        self._streams = [[lane(segment) for segment in segments] for segments in streams]
        self._lanes = [lane for lanes in self._streams for lane in lanes]
        self._done = {lane.segment.operators[-1]: lane.done for lane in self._lanes}
        self._ranks_per_link = {link.name: link.ranks_per_link for link in program.links}
        self._links: dict[tuple[str, int], SharedLink] = {}

    def run(self) -> tuple[FloatArray, FloatArray]:
        """Start and end of every operator, by operator and simulated rank."""
        for position in range(len(self._ranks)):
            for lanes in self._streams:
                self._env.process(self._run_stream(lanes, position))
        self._env.run()
        return self._times()

    def _run_stream(self, lanes: Sequence[_Lane], rank: int) -> Generator[simpy.Event, None, None]:
        env, done, free_s = self._env, self._done, 0.0
        for lane in lanes:
            for dep in lane.segment.waits:
                yield done[dep][rank]
            if lane.meeting:
                yield lane.meeting.arrive()
            start_s = max(env.now, free_s)  # the clock may be an ulp behind the end that it was sent to
            if lane.segment.link:
                start_s = max(start_s, lane.floor_s[rank])
                yield env.timeout(start_s - env.now)
                yield self._link(lane.segment.link, rank).carry(lane.elapsed_s[rank])
                free_s = max(env.now, start_s)
            else:
                free_s = max(start_s, lane.floor_s[rank]) + lane.elapsed_s[rank]
                yield env.timeout(free_s - env.now)
            lane.start_s[rank], lane.end_s[rank] = start_s, free_s
            if lane.done:
                lane.done[rank].succeed()

    def _link(self, name: str, rank: int) -> SharedLink:
        key = name, self._ranks[rank] // self._ranks_per_link[name]
        if key not in self._links:
            self._links[key] = SharedLink(self._env)
        return self._links[key]

    def _times(self) -> tuple[FloatArray, FloatArray]:
        segment_start_s = np.empty_like(self._table.floor_s)
        for lane in self._lanes:
            segment_start_s[list(lane.segment.operators)] = lane.start_s
        start_s, end_s = self._table.started(segment_start_s)
        for lane in self._lanes:
            if lane.segment.link:  # a flow ends when the others on its link let it
                end_s[lane.segment.operators[0]] = lane.end_s
        return start_s, end_s


def _span(program: StepProgram, index: int, rank: int, start_s: float, end_s: float) -> Span:
    op = program.operators[index]
    return Span(
        name=op.name,
        kind=op.kind,
        component=op.component,
        rank=rank,
        stream=op.stream.value,
        start_s=start_s,
        end_s=end_s,
        bound=op.bound,
        flop=op.flop,
        traffic_bytes=op.traffic_bytes,
        energy_j=op.energy_j,
    )
