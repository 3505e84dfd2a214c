"""Where the time of a step goes, in parts that add up to its makespan.

At every moment a rank's time belongs to its compute stream while that is busy; else to its second compute
stream; else to its communication stream, which is then exposed; else to its copy stream; else the rank is
idle (it waits for other ranks, a dependency, the host or the end). Times are means over ranks, so that the
parts of uneven ranks still add up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model_graphs.graph import Stream
from model_graphs.runs.records import FloatArray, Span, StepRun

#: whose time it is when several streams of a rank are busy, first to last; any other stream comes after them
PRECEDENCE = (Stream.COMPUTE, Stream.SECOND_COMPUTE, Stream.COMMUNICATION, Stream.COPY)
IDLE = "idle"
VIEWS = ("component", "kind", "bound", "stream")


@dataclass(frozen=True, slots=True)
class Share:
    """Busy seconds; the part of them that no stream of higher precedence hides; that part of the makespan."""

    busy_s: float
    exposed_s: float
    exposed_fraction: float


@dataclass(frozen=True)
class Breakdown:
    """A step in views; in each, the exposed seconds of its parts and the idle seconds sum to the makespan."""

    makespan_s: float
    idle_s: float
    views: Mapping[str, Mapping[str, Share]]  # by component, kind, bound and stream; the largest part first

    @property
    def idle_fraction(self) -> float:
        """The part of the makespan in which a rank runs nothing."""
        return _fraction(self.idle_s, self.makespan_s)

    @property
    def exposed_communication_s(self) -> float:
        """Seconds in which a rank communicates and computes nothing."""
        communication = self.views["stream"].get(Stream.COMMUNICATION)
        return communication.exposed_s if communication else 0.0

    def seconds(self) -> dict[str, dict[str, float]]:
        """Each view in seconds that sum to the makespan, with the idle ones among them."""
        return {
            view: {name: share.exposed_s for name, share in shares.items()} | {IDLE: self.idle_s}
            for view, shares in self.views.items()
        }


def break_down(run: StepRun) -> Breakdown:
    """The breakdown of a step that was run or measured."""
    exposed_s = np.zeros(len(run.spans))
    covered_s = 0.0
    for of_rank in _indices_by_rank(run):
        exposed_s[of_rank], of_rank_s = _exposed([run.spans[i] for i in of_rank])
        covered_s += of_rank_s
    idle_s = run.makespan_s - covered_s / run.n_ranks
    views = {view: _shares(run, [getattr(span, view) for span in run.spans], exposed_s) for view in VIEWS}
    return Breakdown(run.makespan_s, idle_s, views)


def explain(breakdown: Breakdown) -> str:
    """One paragraph that names what bounds the step."""
    return " ".join(_sentences(breakdown))


def _sentences(breakdown: Breakdown) -> Iterator[str]:
    makespan_s = breakdown.makespan_s
    if not breakdown.views["component"]:
        yield f"The step lasts {_ms(makespan_s)} and runs nothing on the device."
        return
    components = [f"{name} {_percent(share)}" for name, share in breakdown.views["component"].items()]
    yield f"The step lasts {_ms(makespan_s)}, and is mostly {', '.join(components[:3])}."
    limits = [f"{name or 'unstated'} {_percent(share)}" for name, share in breakdown.views["bound"].items()]
    yield f"What limits its operators: {', '.join(limits)}."
    communication = breakdown.views["stream"].get(Stream.COMMUNICATION)
    if communication:
        hidden_s = communication.busy_s - communication.exposed_s
        yield (
            f"Communication is busy for {_ms(communication.busy_s)}: {_ms(hidden_s)} behind compute, "
            f"{_ms(communication.exposed_s)} exposed."
        )
    if breakdown.idle_fraction >= 0.005:
        yield (
            f"For {_ms(breakdown.idle_s)} ({breakdown.idle_fraction:.0%}) a rank waits for other ranks, "
            "a dependency or the host."
        )


def _indices_by_rank(run: StepRun) -> list[list[int]]:
    indices: list[list[int]] = [[] for _ in range(run.n_ranks)]
    for i, span in enumerate(run.spans):
        indices[span.rank].append(i)
    return indices


def _exposed(spans: Sequence[Span]) -> tuple[FloatArray, float]:
    """The exposed seconds of each span of one rank, and the seconds in which any stream is busy."""
    start_s = np.array([span.start_s for span in spans])
    end_s = np.array([span.end_s for span in spans])
    exposed_s = end_s - start_s
    covered = _Covered()
    for stream in sorted({span.stream for span in spans}, key=_precedence):
        rows = np.array([i for i, span in enumerate(spans) if span.stream == stream])
        exposed_s[rows] -= covered.before_s(end_s[rows]) - covered.before_s(start_s[rows])
        covered = covered.joined_by(start_s[rows], end_s[rows])
    return exposed_s, covered.total_s


def _precedence(stream: str) -> tuple[int, str]:
    known = [each.value for each in PRECEDENCE]
    return known.index(stream) if stream in known else len(known), stream


class _Covered:
    """A set of moments: disjoint intervals in order."""

    def __init__(
        self, start_s: Sequence[float] | FloatArray = (), end_s: Sequence[float] | FloatArray = ()
    ) -> None:
        self.start_s = np.asarray(start_s, dtype=np.float64)
        self.end_s = np.asarray(end_s, dtype=np.float64)
        lengths_s = np.concatenate([[0.0], np.cumsum(self.end_s - self.start_s)])
        self.total_s = float(lengths_s[-1])
        self._edges_s = np.concatenate([[0.0], np.stack([self.start_s, self.end_s], axis=1).ravel()])
        self._covered_s = np.concatenate([[0.0], np.stack([lengths_s[:-1], lengths_s[1:]], axis=1).ravel()])

    def before_s(self, moment_s: FloatArray) -> FloatArray:
        """How much of the set lies before each moment."""
        return np.asarray(np.interp(moment_s, self._edges_s, self._covered_s))

    def joined_by(self, start_s: FloatArray, end_s: FloatArray) -> "_Covered":
        """The union with other intervals, which may overlap."""
        starts, ends = np.concatenate([self.start_s, start_s]), np.concatenate([self.end_s, end_s])
        order = np.argsort(starts, kind="stable")
        starts, reached = starts[order], np.maximum.accumulate(ends[order])
        first = np.concatenate([[True], starts[1:] > reached[:-1]])
        last = np.concatenate([first[1:], [True]])
        return _Covered(starts[first], reached[last])


def _shares(run: StepRun, names: Sequence[str], exposed_s: FloatArray) -> dict[str, Share]:
    busy: dict[str, float] = {}
    exposed: dict[str, float] = {}
    for name, span, span_exposed_s in zip(names, run.spans, exposed_s.tolist(), strict=True):
        busy[name] = busy.get(name, 0.0) + (span.end_s - span.start_s) / run.n_ranks
        exposed[name] = exposed.get(name, 0.0) + span_exposed_s / run.n_ranks
    largest_first = sorted(exposed, key=lambda name: (-exposed[name], name))
    return {
        name: Share(busy[name], exposed[name], _fraction(exposed[name], run.makespan_s))
        for name in largest_first
    }


def _fraction(part_s: float, whole_s: float) -> float:
    return part_s / whole_s if whole_s else 0.0


def _ms(time_s: float) -> str:
    return f"{time_s * 1e3:.3g} ms"


def _percent(share: Share) -> str:
    return f"{share.exposed_fraction:.0%}"
