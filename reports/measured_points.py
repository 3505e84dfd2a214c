"""Operators of a step that `silicast measure` timed, as groups of points for a fit (needs torch).

The trace names operators; their shapes are those of the graph that the same reference emits. Layers repeat
the same calls, so each call is one point at the median of its repeats.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem
from model_graphs.graph import Operator, OperatorGraph
from model_graphs.runs.measurement import MeasuredStep, Subject
from model_graphs.runs.trace_io import trace_from_json
from reports.measurement_comparison import check_comparable, measured_graph, point_of
from simulator.costs.calibration import Calibrations
from simulator.costs.estimates import FloatArray, KernelEstimate
from simulator.costs.kernel_sources import SourceEntry
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator
from simulator.measured.calibrate_device import Measured
from simulator.measured.point_groups import Asking, CallBatch, Index, PointGroup, grouped


def step_points(
    text: str, file: str, system: SystemSpec, stack: str, calibrations: Calibrations, measured: Measured
) -> tuple[tuple[PointGroup, ...], Measured, tuple[str, ...]]:
    """The points of a trace, its provenance with the trace's own date and caches, and what was left out.

    Raises:
        InputError: the trace is wrong, was not measured on CUDA in bf16, or torch is not installed.
    """
    step = trace_from_json(text, file)
    check_comparable(step.machine.device, step.subject.dtype)
    if find_spec("torch") is None:
        requirement = "a trace of `measure` needs torch: pip install 'silicast[reference]'"
        raise InputError(Problem(requirement, "an installation without torch", file))
    groups, n_left = groups_of_step(step, system, stack, calibrations)
    notes = (f"{n_left} operators ask for no kernel's constants",) if n_left else ()
    dated = replace(
        measured, measured_on=measured.measured_on or step.protocol.date, caches=step.protocol.caches
    )
    return groups, dated, notes


def groups_of_step(
    step: MeasuredStep, system: SystemSpec, stack: str, calibrations: Calibrations
) -> tuple[tuple[PointGroup, ...], int]:
    """The groups, and how many operators no kernel's constants price."""
    asking, runs, point = Asking(system, calibrations), SourceEntry(stack, ""), point_of(step)
    seconds = {span.name: span.end_s - span.start_s for span in step.run.spans}
    batches = defaultdict(list)
    n_left = 0
    for block, instance, op in _graph(step.subject).instances():
        name = f"{block.name}.{instance}.{op.name}"
        try:
            asked = asking.of(runs, partial(_priced, op, point))
        except (IndexError, InputError):
            n_left += 1
        else:
            batches[asked].append((f"{block.name}.{op.name}", op, seconds[name]))
    made = ((asked, _batch(found, runs, point)) for asked, found in batches.items())
    return grouped(system, calibrations, made), n_left


def _priced(op: Operator, point: dict[str, float], library: KernelLibrary) -> KernelEstimate:
    return price_operator(library, op, point)


def _graph(subject: Subject) -> OperatorGraph:
    from reference_impl.measurement.request import MeasurementRequest

    request = MeasurementRequest(
        model=subject.model,
        width=subject.width,
        n_layers=subject.n_layers,
        phase=subject.phase,
        batch=subject.batch,
        new_tokens=subject.new_tokens,
        past_tokens=subject.past_tokens,
    )
    return measured_graph(request)


def _batch(found: list[tuple[str, Operator, float]], runs: SourceEntry, point: dict[str, float]) -> CallBatch:
    repeats: dict[str, list[tuple[Operator, float]]] = defaultdict(list)
    for name, op, latency_s in found:
        repeats[name].append((op, latency_s))
    ops = [same[0][0] for same in repeats.values()]
    medians = np.array([np.median([latency_s for _, latency_s in same]) for same in repeats.values()])

    def price(library: KernelLibrary, index: Index) -> FloatArray:
        return np.array([float(price_operator(library, ops[i], point).latency_s) for i in index.tolist()])

    return CallBatch(runs, medians, tuple(repeats), price)
