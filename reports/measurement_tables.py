"""What `measure` shows of a measured step: latency, energy, and where its time goes by kind of operator."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from rich.console import RenderableType

from model_graphs.runs.measurement import EnergyReading, MeasuredStep, Spread
from model_graphs.runs.records import Span
from reports.formatting import decimal, figure, percent, signed_percent
from reports.tables import definition, table
from reports.versions import runtime_versions


@dataclass(frozen=True)
class KindShare:
    """All calls of one kind of operator in a step: how many, for how long, and what they do meanwhile."""

    kind: str
    n_calls: int
    busy_s: float
    share: float
    flop_per_s: float
    bytes_per_s: float


def shares_by_kind(step: MeasuredStep) -> tuple[KindShare, ...]:
    """Each kind of operator, the longest first; what shares lack to one is the time between kernels."""
    members: dict[str, list[Span]] = defaultdict(list)
    for span in step.run.spans:
        members[span.kind].append(span)
    shares = [_share(kind, spans, step.run.makespan_s) for kind, spans in members.items()]
    return tuple(sorted(shares, key=lambda one: (-one.busy_s, one.kind)))


def _share(kind: str, spans: list[Span], makespan_s: float) -> KindShare:
    busy_s = sum(span.end_s - span.start_s for span in spans)
    return KindShare(
        kind=kind,
        n_calls=len(spans),
        busy_s=busy_s,
        share=busy_s / makespan_s,
        flop_per_s=sum(span.flop for span in spans) / busy_s,
        bytes_per_s=sum(span.traffic_bytes for span in spans) / busy_s,
    )


def measurement_tables(step: MeasuredStep) -> Iterator[RenderableType]:
    """Machine and step, latency with its spread, kinds of operators."""
    yield definition("Measured step", _entries(step))
    rows = [
        ("step", *_spread(step.plain)),
        ("step, recorded", *_spread(step.recorded)),
        ("its spans and gaps, medians added", figure(step.run.makespan_s * 1e6), "", ""),
    ]
    caption = f"recording changes the step by {signed_percent(step.recording_overhead_fraction)}"
    yield table("Latency", ("", ">median us", ">shortest", ">longest"), rows, caption=caption)
    columns = ("kind", ">calls", ">total us", ">share", ">rate", ">GB/s")
    yield table("By kind of operator", columns, _kind_rows(step))


def _kind_rows(step: MeasuredStep) -> Iterator[tuple[str, ...]]:
    shares = shares_by_kind(step)
    for one in shares:
        rates = decimal(one.flop_per_s, "FLOP/s"), figure(one.bytes_per_s * 1e-9)
        yield one.kind, str(one.n_calls), figure(one.busy_s * 1e6), percent(one.share), *rates
    idle = 1.0 - sum(one.share for one in shares)
    yield "between kernels", "", figure(idle * step.run.makespan_s * 1e6), percent(idle), "", ""


def _entries(step: MeasuredStep) -> list[tuple[str, str]]:
    what, machine, protocol = step.subject, step.machine, step.protocol
    model = f"{what.model}, {what.width} width, {what.n_layers} layers, {what.dtype}, random weights"
    sizes = f"{what.batch} sequences, {what.new_tokens} new and {what.past_tokens} past tokens each"
    warmed = f"after {protocol.warm_up} warm-up steps, {protocol.caches} caches"
    return [
        ("machine", f"{machine.name} ({machine.device}), {machine.n_threads} threads, {machine.platform}"),
        ("torch", machine.torch_version),
        ("model", model),
        ("step", f"{what.phase}: {sizes}"),
        ("readings", f"{protocol.repeats} {warmed}, {protocol.date}"),
        ("load before", "not known" if protocol.load_average is None else f"{protocol.load_average:.1f}"),
        ("energy", _energy(step.energy)),
        *_placement(step),
        ("input hash", step.input_hash),
    ]


def _placement(step: MeasuredStep) -> Iterator[tuple[str, str]]:
    if step.subject.placement:
        crossed = ", ".join(f"{way} {decimal(n, 'B')}" for way, n in sorted(step.crossing_bytes.items()))
        yield "placement", step.subject.placement
        yield "crosses a step", crossed or "nothing"


def _energy(reading: EnergyReading) -> str:
    if reading.joules is None:
        return f"not read: {reading.reason}"
    return f"{figure(reading.joules)} J a step ({reading.method})"


def _spread(spread: Spread) -> tuple[str, str, str]:
    return figure(spread.median_s * 1e6), figure(spread.low_s * 1e6), figure(spread.high_s * 1e6)


def measurement_json(step: MeasuredStep) -> dict[str, object]:
    """The same content; spans go to the trace file."""
    return {
        "schema_version": 1,
        "machine": asdict(step.machine),
        "subject": asdict(step.subject),
        "protocol": asdict(step.protocol),
        "plain": asdict(step.plain),
        "recorded": asdict(step.recorded),
        "recording_overhead_fraction": step.recording_overhead_fraction,
        "energy": asdict(step.energy),
        "crossing_bytes": dict(step.crossing_bytes),
        "kinds": [asdict(one) for one in shares_by_kind(step)],
        "input_hash": step.input_hash,
        "versions": runtime_versions(),
    }
