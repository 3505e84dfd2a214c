"""One step priced operator by operator: the program that the step engine runs, and the work it stands for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hardware_specs.records.evidence import Grade, worst
from model_graphs.graph import Block, Operator, OperatorGraph, Stream
from simulator.costs.estimates import BOUNDS
from simulator.costs.expert_load import expert_load
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator, traffic_bytes
from simulator.step.components import BANDWIDTH_KINDS
from simulator.step.constants import StackConstants
from simulator.step.program import StepProgram, TimedBlock, TimedOperator, unroll

Point = Mapping[str, float]


@dataclass(frozen=True)
class Work:
    """Arithmetic and memory traffic of one rank in one step."""

    flop: float
    traffic_bytes: float


@dataclass(frozen=True)
class PricedStep:
    """A step ready to run, with the weakest grade and the widest evidence of its parts."""

    program: StepProgram
    grade: Grade
    evidence: tuple[str, ...]


def price_step(
    graph: OperatorGraph,
    library: KernelLibrary,
    constants: StackConstants,
    point: Point,
    *,
    n_ranks: int,
    sampled: float,
    running: float,
) -> PricedStep:
    """The program of one step of `graph` at a point: B sequences, S new and T past tokens each.

    `sampled` rows go through the head; `running` sequences of all ranks pay for host work. The host time of a
    stack is a floor under the launch of the next step, so it stands before the step's operators.
    """
    grades: list[Grade] = []
    evidence: set[str] = set()
    blocks = []
    scale = constants.kernel_scale * (1.0 if graph.phase == "decode" else constants.prefill_scale)
    for block in graph.blocks:
        at = dict(point, B=sampled, S=1.0, T=0.0) if block.name == "head" else dict(point)
        operators = tuple(
            _timed(op, library, scale, constants.small_kernel_s, at, grades, evidence)
            for op in block.operators
        )
        blocks.append(TimedBlock(block.name, block.repeat, operators))
    host_s = constants.host_base_s + constants.host_per_sequence_s * running
    if graph.phase != "decode":
        host_s += constants.host_prefill_s
    operators = unroll(blocks)
    if host_s > 0:
        operators = _after_host(operators, host_s)
    return PricedStep(StepProgram(operators, n_ranks), worst(*grades), tuple(sorted(evidence)))


def _timed(
    operator: Operator,
    library: KernelLibrary,
    scale: float,
    small_kernel_s: float,
    at: Point,
    grades: list[Grade],
    evidence: set[str],
) -> TimedOperator:
    estimate = price_operator(library, operator, at)
    grades.append(estimate.grade)
    evidence.add(estimate.evidence)
    work = operator_work(operator, at)
    seconds = float(estimate.latency_s)
    if operator.kind in BANDWIDTH_KINDS:
        seconds += small_kernel_s - float(library.bandwidth_bound(1e-6, "add").latency_s)
    elif operator.collective is None:
        seconds *= scale
    return TimedOperator(
        name=operator.name,
        kind=operator.kind,
        component=operator.component,
        stream=operator.stream,
        duration_s=max(seconds, 0.0),
        deps=operator.deps,
        collective=operator.collective is not None,
        bound=BOUNDS[int(estimate.bound)],
        flop=work.flop,
        traffic_bytes=work.traffic_bytes,
    )


def _after_host(operators: tuple[TimedOperator, ...], host_s: float) -> tuple[TimedOperator, ...]:
    """The operators behind one host operator that everything waits for."""
    host = TimedOperator("host", "host", "host", Stream.COMPUTE, host_s, bound="launch")
    moved = (_shifted(op) for op in operators)
    return (host, *moved)


def _shifted(operator: TimedOperator) -> TimedOperator:
    deps = tuple(dep + 1 for dep in operator.deps) or (0,)
    return replace(operator, deps=deps)


def operator_work(operator: Operator, at: Point) -> Work:
    """FLOP that real kernels do (causal) and bytes moved; of routed experts, only those that are hit."""
    flop = float(operator.causal_flop.evaluate(at))
    traffic = float(traffic_bytes(operator, at))
    if operator.kind == "moe_experts":
        traffic -= float(operator.weight_bytes.evaluate(at)) * (1 - hit_fraction(operator, at))
    return Work(flop, traffic)


def hit_fraction(operator: Operator, at: Point) -> float:
    """Share of a rank's experts that at least one token chose, under the skewed load of the kernel models."""
    n_experts, topk = int(operator.attrs["n_experts"]), int(operator.attrs["topk"])
    ep = int(operator.attrs.get("moe_ep", 1))
    tokens = np.array([float(np.prod([d.evaluate(at) for d in operator.inputs[0].shape[:-1]]))])
    load = expert_load(tokens, n_experts, topk, ep, str(operator.attrs.get("distribution", "power_law_1.01")))
    return float(np.clip(load.active[0] / (n_experts / ep), 0.0, 1.0))


def graph_work(graph: OperatorGraph, at: Point, sampled: float) -> Work:
    """Work of one rank in one step of the graph."""
    flop = traffic = 0.0
    for block in graph.blocks:
        point = dict(at, B=sampled, S=1.0, T=0.0) if block.name == "head" else at
        work = _block_work(block, point)
        flop += work.flop
        traffic += work.traffic_bytes
    return Work(flop, traffic)


def _block_work(block: Block, at: Point) -> Work:
    parts = [operator_work(op, at) for op in block.operators]
    return Work(
        block.repeat * sum(part.flop for part in parts),
        block.repeat * sum(part.traffic_bytes for part in parts),
    )
