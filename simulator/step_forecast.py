"""One prefill or decode step of a deployment at operator level: timeline, breakdown, and what bounds it."""

from dataclasses import dataclass
from math import hypot

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.evidence import Estimate, worst
from hardware_specs.records.hashing import content_hash
from model_graphs.graph import OperatorGraph
from model_graphs.runs.records import StepRun
from simulator.costs.energy import power_model
from simulator.energy import step_energy
from simulator.engine.streams import run_step
from simulator.ledger import versions
from simulator.prepared import Deployed, deploy, encoder_memory, prepare
from simulator.scenario.model import Deployment
from simulator.step.breakdown import Breakdown, break_down, explain
from simulator.step.pricing import Work, graph_work, price_step

PHASES = ("prefill", "decode", "chunked_prefill", "encode")


@dataclass(frozen=True)
class StepForecast:
    """A step: its run, where the time goes, latency and energy with intervals, and the weakest evidence."""

    deployment: Deployment
    phase: str
    run: StepRun
    breakdown: Breakdown
    explanation: str
    latency: Estimate
    energy_j: Estimate
    power_w: Estimate
    work: Work
    evidence: tuple[str, ...]
    input_hash: str
    versions: dict[str, str]


def forecast_step(deployment: Deployment, phase: str, batch: int, length: int, past: int = 0) -> StepForecast:
    """One step of `batch` sequences of the whole replica.

    `length` is the context of a decoding sequence, the new tokens of a prompt (after `past` cached ones in
    a chunked prefill), or those of a text to encode; an image has as many as its encoder. Energy and power
    are those of all devices of a replica, GPU only.

    Raises:
        InputError: the phase or a count is wrong, or the deployment is.
        DoesNotFitError: the model does not fit.
    """
    check_step(phase, batch, length, past)
    prepared = _deployed(deployment, batch, length) if phase == "encode" else prepare(deployment)
    point = step_point(phase, batch / prepared.layout.dp, length, past)
    sampled = _head_rows(prepared.graphs[phase], point)
    priced = price_step(
        prepared.graphs[phase],
        prepared.library,
        prepared.stack.constants.plain(),
        power_model(prepared.system.device),
        point,
        n_ranks=prepared.layout.n_ranks,
        sampled=sampled,
        running=float(batch) if phase == "decode" else 0.0,
        second_stream_tokens=prepared.stack.rules.second_stream_tokens.value,
    )
    run = run_step(priced.program)
    grade = worst(priced.grade, prepared.stack.grade, prepared.model.grade)
    width = hypot(prepared.stack.tpot_log_half_width, priced.engine_log_half_width)
    work = graph_work(prepared.graphs[phase], point, sampled, prepared.library.engine)
    energy, power = step_energy(prepared, run, grade)
    breakdown = break_down(run)
    return StepForecast(
        deployment=deployment,
        phase=phase,
        run=run,
        breakdown=breakdown,
        explanation=explain(breakdown),
        latency=Estimate.from_log_half_width(run.makespan_s * 1e3, width, "ms", grade),
        energy_j=energy,
        power_w=power,
        work=work,
        evidence=priced.evidence,
        input_hash=_hash(prepared, phase, batch, length, past),
        versions=versions(),
    )


def _deployed(deployment: Deployment, batch: int, length: int) -> Deployed:
    """The deployment of an encoder that fits."""
    deployed = deploy(deployment)
    if "encode" not in deployed.graphs:
        phases = ", ".join(deployed.graphs)
        raise InputError(
            Problem(f"phase of {deployed.model.key} must be one of {phases}", "encode", path="phase")
        )
    encoder_memory(deployed, batch, length)
    return deployed


def _head_rows(graph: OperatorGraph, point: dict[str, float]) -> float:
    """Rows that the head reads: one a sequence, every token of an encoded text, or one an image."""
    if graph.phase == "encode" and "S" in graph.symbols:
        return point["B"] * point["S"]
    return max(point["B"], 1.0)


def step_point(phase: str, batch: float, length: int, past: int) -> dict[str, float]:
    """B sequences, S new and T past tokens of each, of a step as `forecast_step` describes it."""
    if phase == "decode":
        return {"B": batch, "S": 1.0, "T": float(length - 1)}
    return {"B": batch, "S": float(length), "T": float(past)}


def check_step(phase: str, batch: int, length: int, past: int) -> None:
    """Refuse a step that cannot be.

    Raises:
        InputError: the phase or a count is wrong; all of them at once.
    """
    problems = []
    if phase not in PHASES:
        problems.append(
            Problem(
                f"phase must be one of {', '.join(PHASES)}",
                phase,
                path="phase",
                suggestion=nearest(phase, PHASES),
            )
        )
    for name, value, least in (("batch", batch, 1), ("length", length, 1), ("past", past, 0)):
        if value < least:
            problems.append(Problem(f"must be at least {least}", str(value), path=name))
    if past and phase != "chunked_prefill":
        problems.append(Problem("past tokens belong to phase chunked_prefill", str(past), path="past"))
    if problems:
        raise InputError(*problems)


def _hash(prepared: Deployed, *parts: object) -> str:
    return content_hash(
        prepared.deployment.model_dump(mode="json"),
        prepared.system.content_hash,
        prepared.model.content_hash,
        prepared.stack.content_hash,
        prepared.calibration_hash,
        *parts,
    )
