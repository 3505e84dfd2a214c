"""One measured step: warmed up, repeated with and without the recorder, its energy read from a meter."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.hashing import content_hash
from model_graphs.configs import ModelRecord, resolve_model
from model_graphs.runs.measurement import (
    Machine,
    MeasuredStep,
    Protocol,
    Spread,
    Subject,
    measured_span,
)
from model_graphs.runs.records import FloatArray, Span, StepRun
from reference_impl.measurement.call_catalogue import CataloguedCall, catalogue
from reference_impl.measurement.clocks import Clock, clock_of
from reference_impl.measurement.machine import describe_machine, load_average
from reference_impl.measurement.meters import meter_of, step_energy
from reference_impl.measurement.recorder import Recorder
from reference_impl.measurement.request import MeasurementRequest
from reference_impl.measurement.subject import StepSubject, build_subject

Tick = Callable[[int, int], None]

#: a buffer of this many last-level caches leaves nothing else in the cache
EVICTION_FACTOR = 2


def measure_step(request: MeasurementRequest, tick: Tick = lambda done, total: None) -> MeasuredStep:
    """The step that is asked for, measured on this machine.

    Raises:
        InputError: the model is unknown or cannot be built as asked, or cold caches are asked for where the
            machine does not say how large they are.
        DoesNotFitError: the weights do not fit into the memory that is free now.
    """
    record = resolve_model(request.model)
    with _threads(request.n_threads), TemporaryDirectory() as folder:
        machine, protocol = describe_machine(request.device), _protocol(request)
        evict = _eviction(machine, request)
        subject = build_subject(record, request, Path(folder))
        before = _crossed(subject)
        calls = catalogue(subject.model, subject.step)
        crossed = {way: n_bytes - before.get(way, 0) for way, n_bytes in _crossed(subject).items()}
        for _ in range(request.warm_up):
            subject.step()
        plain, marks = _repeated(subject, calls, request, evict, tick)
        energy = step_energy(meter_of(request.device), _synchronised(subject.step, request.device))
    run, spreads = timeline(calls, marks)
    return MeasuredStep(
        machine=machine,
        subject=_subject(record, request, subject.n_layers),
        protocol=protocol,
        input_hash=content_hash(record.content_hash, asdict(request)),
        plain=spread(plain),
        recorded=spread(marks[:, -1]),
        energy=energy,
        run=run,
        spreads=spreads,
        crossing_bytes=crossed,
    )


def _protocol(request: MeasurementRequest) -> Protocol:
    return Protocol(
        date=datetime.now(UTC).date().isoformat(),
        warm_up=request.warm_up,
        repeats=request.repeats,
        caches="cold" if request.cold_caches else "warm",
        load_average=load_average(),
    )


def _crossed(subject: StepSubject) -> dict[str, int]:
    """Bytes that have crossed so far, by `from>to`."""
    counted = subject.placed.crossed_bytes if subject.placed else {}
    return {f"{start}>{end}": n_bytes for (start, end), n_bytes in counted.items()}


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    """PyTorch with this many threads, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _eviction(machine: Machine, request: MeasurementRequest) -> Callable[[], None]:
    """What runs before each repeat: nothing, or a sweep that leaves none of the step's data in the cache."""
    if not request.cold_caches:
        return lambda: None
    if machine.cache_bytes is None:
        requirement = "cold caches need a machine that says how large its last-level cache is"
        raise InputError(Problem(requirement, machine.name, path="cold_caches"))
    buffer = torch.zeros(EVICTION_FACTOR * machine.cache_bytes, dtype=torch.uint8, device=request.device)

    def sweep() -> None:
        buffer.add_(1)

    return sweep


def _synchronised(step: Callable[[], object], device: str) -> Callable[[], object]:
    def run() -> None:
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def _repeated(
    subject: StepSubject,
    calls: Sequence[CataloguedCall],
    request: MeasurementRequest,
    evict: Callable[[], None],
    tick: Tick,
) -> tuple[FloatArray, FloatArray]:
    """Seconds of the plain steps, and the marks of the recorded ones: start, each call's two, end.

    Plain and recorded steps alternate, so that a machine that slows down slows both.
    """
    clock = clock_of(request.device, placed=subject.placed is not None)
    plain, marks = [], []
    for done in range(request.repeats):
        tick(done, request.repeats)
        evict()
        plain.append(_plain_seconds(subject, clock))
        evict()
        marks.append(_recorded_marks(subject, clock))
        assert len(marks[-1]) == 2 * len(calls) + 2, "every repeat must call the same kernels"
    return np.array(plain), np.array(marks)


def _plain_seconds(subject: StepSubject, clock: Clock) -> float:
    start = clock.mark()
    subject.step()
    return clock.seconds([start, clock.mark()])[1]


def _recorded_marks(subject: StepSubject, clock: Clock) -> list[float]:
    with Recorder(clock) as recorder:
        start = clock.mark()
        subject.step()
        end = clock.mark()
    return clock.seconds([start, *recorder.marks, end])


def _subject(record: ModelRecord, request: MeasurementRequest, n_layers: int) -> Subject:
    return Subject(
        model=record.key,
        width="full" if request.width == "full" else "narrow",
        n_layers=n_layers,
        phase=request.phase,
        batch=request.batch,
        new_tokens=request.new_tokens,
        past_tokens=request.past_tokens,
        dtype=request.dtype,
        seed=request.seed,
        placement="" if request.placement is None else str(request.placement),
    )


def timeline(calls: Sequence[CataloguedCall], marks: FloatArray) -> tuple[StepRun, tuple[Spread, ...]]:
    """Spans of median length behind median gaps, and the readings behind each of them.

    `marks` holds a row a repeat: seconds of the step's start, each call's start and end, the step's end.
    """
    lengths = np.diff(marks, axis=1)  # gap, call, gap, call, ..., gap
    edges = np.concatenate([[0.0], np.cumsum(np.median(lengths, axis=0))])
    spans = tuple(_span(call, edges[2 * i + 1 : 2 * i + 3]) for i, call in enumerate(calls))
    spreads = tuple(spread(lengths[:, 2 * i + 1]) for i in range(len(calls)))
    return StepRun(spans, float(edges[-1]), n_ranks=1), spreads


def _span(call: CataloguedCall, edges: Any) -> Span:
    start_s, end_s = map(float, edges)
    length_s = end_s - start_s
    return measured_span(
        call.name, call.kind, call.component, start_s, length_s, call.flop, call.traffic_bytes
    )


def spread(seconds: FloatArray) -> Spread:
    """Median, shortest and longest of repeated readings."""
    return Spread(float(np.median(seconds)), float(seconds.min()), float(seconds.max()))
