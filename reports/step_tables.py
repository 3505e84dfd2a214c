"""The printed form and the JSON of one step at operator level."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from rich.console import Group, RenderableType

from hardware_specs.records.evidence import Estimate
from reports.forecast_json import estimate_json
from reports.formatting import decimal, figure, interval, percent
from reports.rows import ASSUMPTION_COLUMNS, Row, approximation, assumption_rows
from reports.tables import definition, table
from reports.versions import runtime_versions
from simulator.forecast import Assumption
from simulator.step.breakdown import IDLE, Share
from simulator.step_forecast import StepForecast

_COLUMNS = (">busy ms", ">exposed ms", ">of the step")


def step_tables(
    step: StepForecast, assumed: tuple[Assumption, ...], *, explain: bool
) -> Iterator[RenderableType]:
    """Latency, energy and where the time goes; with `explain` every view and the evidence."""
    one = step.deployment
    title = f"{step.phase} of {one.model} on {one.gpus_per_replica} x {one.system}"
    approximate = approximation(one)
    if approximate:
        yield definition("", approximate)
    yield _headline(title, step)
    for view in step.breakdown.views if explain else ("component", "kind", "bound"):
        yield _view_table(step, view)
    yield definition("What bounds it", [("", step.explanation)])
    if assumed:
        yield table("Assumptions", ASSUMPTION_COLUMNS, assumption_rows(assumed))
    if explain:
        yield definition("Evidence", [("", line) for line in step.evidence])
    versions = ", ".join(f"{name} {text}" for name, text in step.versions.items())
    yield definition("", [("input hash", step.input_hash), ("versions", versions)])


def _headline(title: str, step: StepForecast) -> Group:
    rows = [
        ("latency", *_cells(step.latency)),
        ("energy of a replica, GPUs only", *_cells(step.energy_j)),
        ("power of a replica, GPUs only", *_cells(step.power_w)),
        ("work of one rank", decimal(step.work.flop, "FLOP"), "", "", ""),
        ("traffic of one rank", decimal(step.work.traffic_bytes, "B"), "", "", ""),
    ]
    return table(title, ("step", ">value", ">90% interval", "unit", "grade"), rows)


def _cells(estimate: Estimate) -> Row:
    return figure(estimate.value), interval(estimate), estimate.unit, estimate.grade.value


def _view_table(step: StepForecast, view: str) -> Group:
    rows = [(name, *_share(share)) for name, share in step.breakdown.views[view].items()]
    rows.append((IDLE, "", figure(step.breakdown.idle_s * 1e3), percent(step.breakdown.idle_fraction)))
    return table(f"By {view}", (view, *_COLUMNS), rows)


def _share(share: Share) -> Row:
    return figure(share.busy_s * 1e3), figure(share.exposed_s * 1e3), percent(share.exposed_fraction)


def step_json(step: StepForecast, assumed: tuple[Assumption, ...]) -> dict[str, object]:
    """The same content; spans go to the trace file."""
    return {
        "schema_version": 1,
        "approximation": [text for _, text in approximation(step.deployment)],
        "deployment": step.deployment.model_dump(mode="json"),
        "phase": step.phase,
        "latency_ms": estimate_json(step.latency),
        "energy_j": estimate_json(step.energy_j),
        "power_w": estimate_json(step.power_w),
        "work_per_rank": asdict(step.work),
        "breakdown": _breakdown_json(step),
        "explanation": step.explanation,
        "evidence": list(step.evidence),
        "assumptions": [asdict(one) for one in assumed],
        "input_hash": step.input_hash,
        "versions": runtime_versions() | step.versions,
    }


def _breakdown_json(step: StepForecast) -> Mapping[str, object]:
    found = step.breakdown
    views = {
        view: {name: asdict(share) for name, share in parts.items()} for view, parts in found.views.items()
    }
    return {"makespan_s": found.makespan_s, "idle_s": found.idle_s, "views": views}
