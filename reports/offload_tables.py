"""The printed form and the JSON of steps that lie partly on a GPU, partly on its host."""

from collections.abc import Iterator, Sequence

from rich.console import Group

from hardware_specs.records.hashing import content_hash
from model_graphs.placement import Place
from reports.forecast_json import estimate_json
from reports.formatting import figure, gib, interval, percent
from reports.tables import definition, table
from reports.versions import runtime_versions
from simulator.planning.offload import Offload, OffloadStep

_PLACES = ("gpu", "cpu", "copy", "disk")
_ASSUMED = (
    "operators run one after the other; the host at its datasheet's bandwidth and peak, which no measurement "
    "here supports; without a stack's host time"
)


def curve_table(offload: Offload, steps: Sequence[OffloadStep]) -> Group:
    """A line for each number of layers on the GPU."""
    rows = [
        (
            str(step.n_gpu_layers),
            gib(step.weight_bytes.get(Place.GPU, 0)),
            figure(step.latency.value),
            interval(step.latency),
            *(figure(step.seconds.get(place, 0.0) * 1e3) for place in ("gpu", "cpu")),
            "does not fit" if step.lack else "fits",
        )
        for step in steps
    ]
    columns = (">layers on GPU", ">weights there", ">ms", ">90%", ">GPU ms", ">CPU ms", "memory")
    return table(_title(offload), columns, rows, caption=f"Grade D: {_ASSUMED}.")


def step_tables(offload: Offload, step: OffloadStep) -> Iterator[Group]:
    """One plan's step: latency, where its time goes, what lies where."""
    entries = [
        ("plan", str(step.plan)),
        ("latency", f"{figure(step.latency.value)} ms {interval(step.latency)}, grade {step.latency.grade}"),
        ("crosses the link", f"{step.crossing_bytes * 1e-6:,.3f} MB a step"),
        ("assumed", _ASSUMED),
    ]
    yield definition(_title(offload), entries)
    total_s = step.run.makespan_s
    rows = [
        (place, figure(step.seconds[place] * 1e3), percent(step.seconds[place] / total_s))
        for place in _PLACES
        if place in step.seconds
    ]
    yield table("Time", ("where", ">ms", ">share"), rows)
    held = [
        (place.value, gib(n_bytes), gib(step.cache_bytes.get(place, 0.0)))
        for place, n_bytes in step.weight_bytes.items()
    ]
    yield table("Memory", ("place", ">weights", ">cache"), held)


def _title(offload: Offload) -> str:
    one, at = offload.deployment, offload.point
    sizes = f"{at['B']:g} sequences, {at['S']:g} new and {at['T']:g} past tokens"
    return f"{one.model} in {one.precision} on 1 x {one.system} and its host: {sizes}"


def offload_json(offload: Offload, phase: str, steps: Sequence[OffloadStep]) -> dict[str, object]:
    """The same content; spans go to the trace file."""
    deployment = offload.deployment.model_dump(mode="json")
    return {
        "schema_version": 1,
        "deployment": deployment,
        "phase": phase,
        "point": offload.point,
        "steps": [_step_json(step) for step in steps],
        "assumed": _ASSUMED,
        "input_hash": content_hash(
            deployment,
            offload.system.content_hash,
            offload.model.content_hash,
            phase,
            offload.point,
            [str(step.plan) for step in steps],
        ),
        "versions": runtime_versions(),
    }


def _step_json(step: OffloadStep) -> dict[str, object]:
    return {
        "plan": str(step.plan),
        "layers_on_gpu": step.n_gpu_layers,
        "latency_ms": estimate_json(step.latency),
        "seconds": dict(step.seconds),
        "weight_bytes": {place.value: n for place, n in step.weight_bytes.items()},
        "cache_bytes": {place.value: n for place, n in step.cache_bytes.items()},
        "crossing_bytes": step.crossing_bytes,
        "fits": step.lack is None,
        "lack": str(step.lack) if step.lack else None,
    }
