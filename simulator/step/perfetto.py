"""Writes a step run as a Chrome trace, which Perfetto and a browser's tracing page open.

Processes are ranks and threads are streams; thread 0 of each rank holds one span for the whole step. Times
are in microseconds on a grid of 2^-20 us, about a picosecond: a start plus a duration is then exact in
binary, so spans that touch do not overlap by a rounding. Categories are those that a profiler gives real
kernels and copies, so that a simulated and a measured trace open side by side.
"""

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model_graphs.graph import Stream
from model_graphs.runs.records import Span, StepRun

Event = dict[str, Any]

_TICKS_PER_US = 2**20
_STEP_THREAD = 0


def write_trace(run: StepRun, path: str | Path, name: str = "step") -> None:
    """Write the trace of a run, gzipped when the name ends in `.gz`. The file appears whole or not at all."""
    text = json.dumps(trace(run, name), separators=(",", ":"), allow_nan=False).encode()
    _write_whole(
        Path(path), gzip.compress(text, compresslevel=6, mtime=0) if str(path).endswith(".gz") else text
    )


def trace(run: StepRun, name: str = "step") -> dict[str, Any]:
    """The trace as the object that its JSON file holds."""
    threads = _threads(run)
    events = [*_names(run, threads), *_steps(run, name), *(_span(span, threads) for span in run.spans)]
    return {"displayTimeUnit": "ns", "traceEvents": [*events, *_rates(run)]}


def _threads(run: StepRun) -> dict[str, int]:
    known = [stream.value for stream in Stream]
    others = sorted({span.stream for span in run.spans}.difference(known))
    return {stream: thread for thread, stream in enumerate([*known, *others], start=_STEP_THREAD + 1)}


def _names(run: StepRun, threads: Mapping[str, int]) -> Iterator[Event]:
    used = {"step": _STEP_THREAD} | {
        stream: threads[stream] for stream in {span.stream for span in run.spans}
    }
    for rank in range(run.n_ranks):
        yield _metadata(rank, _STEP_THREAD, "process_name", name=f"rank {rank}")
        yield _metadata(rank, _STEP_THREAD, "process_sort_index", sort_index=rank)
        for stream, thread in sorted(used.items(), key=lambda item: item[1]):
            yield _metadata(rank, thread, "thread_name", name=stream)
            yield _metadata(rank, thread, "thread_sort_index", sort_index=thread)


def _metadata(rank: int, thread: int, what: str, **args: str | int) -> Event:
    return {"ph": "M", "pid": rank, "tid": thread, "name": what, "args": args}


def _steps(run: StepRun, name: str) -> Iterator[Event]:
    for rank in range(run.n_ranks):
        yield _complete(name, "step", rank, _STEP_THREAD, 0.0, run.makespan_s)


def _span(span: Span, threads: Mapping[str, int]) -> Event:
    category = "gpu_memcpy" if span.stream == Stream.COPY else "kernel"
    event = _complete(span.name, category, span.rank, threads[span.stream], span.start_s, span.end_s)
    event["args"] = {
        "kind": span.kind,
        "component": span.component,
        "bound": span.bound,
        "flop": span.flop,
        "bytes": span.traffic_bytes,
        "energy_j": span.energy_j,
    }
    return event


def _complete(name: str, category: str, rank: int, thread: int, start_s: float, end_s: float) -> Event:
    start, end = _ticks(start_s), _ticks(end_s)
    times = {"ts": start / _TICKS_PER_US, "dur": (end - start) / _TICKS_PER_US}
    return {"ph": "X", "name": name, "cat": category, "pid": rank, "tid": thread, **times}


def _rates(run: StepRun) -> Iterator[Event]:
    """Counter tracks of each rank: what the operators that are running draw and move together."""
    for rank in range(run.n_ranks):
        spans = [span for span in run.spans if span.rank == rank and span.end_s > span.start_s]
        for name, amounts in (
            ("power_w", [span.energy_j or 0.0 for span in spans]),
            ("traffic_gb_per_s", [span.traffic_bytes * 1e-9 for span in spans]),
        ):
            if any(amounts):
                yield from _counter(name, rank, spans, amounts)


def _counter(name: str, rank: int, spans: list[Span], amounts: list[float]) -> Iterator[Event]:
    changes: dict[int, dict[str, float]] = {}
    for span in spans:  # in start order, so that the start of the next span on a stream replaces an end
        changes.setdefault(_ticks(span.end_s), {}).setdefault(span.stream, 0.0)
    for span, amount in zip(spans, amounts, strict=True):
        changes.setdefault(_ticks(span.start_s), {})[span.stream] = amount / (span.end_s - span.start_s)
    running: dict[str, float] = {}
    for tick in sorted(changes):
        running |= changes[tick]
        yield {
            "ph": "C",
            "name": name,
            "pid": rank,
            "tid": _STEP_THREAD,
            "ts": tick / _TICKS_PER_US,
            "args": {name: sum(running.values())},
        }


def _ticks(time_s: float) -> int:
    return round(time_s * 1e6 * _TICKS_PER_US)


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
