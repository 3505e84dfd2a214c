"""One step priced operator by operator: the program that the step engine runs, and the work it stands for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hardware_specs.records.evidence import Grade, worst
from model_graphs.graph import Block, Operator, OperatorGraph, Stream
from simulator.costs.energy import PowerModel
from simulator.costs.estimates import BOUNDS
from simulator.costs.expert_load import expert_load
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator, traffic_bytes
from simulator.step.components import BANDWIDTH_KINDS, is_shared_expert
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
    power: PowerModel,
    point: Point,
    *,
    n_ranks: int,
    sampled: float,
    running: float,
    second_stream_tokens: float,
) -> PricedStep:
    """The program of one step of `graph` at a point: B sequences, S new and T past tokens each.

    Shared experts run on a second stream in steps of up to `second_stream_tokens` tokens. `sampled` rows go
    through the head; `running` sequences of all ranks pay for host work. The host time of a stack is a floor
    under the launch of the next step, so it stands before the step's operators.
    """
    second = point["B"] * point["S"] <= second_stream_tokens
    pricer = _StepPricer(graph.phase, library, constants, power, second)
    head = {**point, "B": sampled, "S": 1.0, "T": 0.0}
    blocks = [
        TimedBlock(
            block.name,
            block.repeat,
            tuple(pricer.timed(op, head if block.name == "head" else point) for op in block.operators),
        )
        for block in graph.blocks
    ]
    operators = pricer.after_host(unroll(blocks), running)
    return PricedStep(StepProgram(operators, n_ranks), worst(*pricer.grades), tuple(sorted(pricer.evidence)))


class _StepPricer:
    """Turns operators into timed ones under a stack's constants, and collects what that rests on."""

    def __init__(
        self, phase: str, library: KernelLibrary, constants: StackConstants, power: PowerModel, second: bool
    ) -> None:
        self.library = library
        self.constants = constants
        self.power = power
        self.second_stream = second
        self.prefills = phase != "decode"
        self.scale = constants.kernel_scale * (constants.prefill_scale if self.prefills else 1.0)
        self.launch_s = library.launch_s
        self.grades: list[Grade] = []
        self.evidence: set[str] = set()

    def timed(self, operator: Operator, at: Point) -> TimedOperator:
        """The operator with its duration, bound, work and energy on one rank."""
        estimate = price_operator(self.library, operator, at)
        self.grades.append(estimate.grade)
        self.evidence.add(estimate.evidence)
        seconds = self._seconds(operator, float(estimate.latency_s))
        work = operator_work(operator, at)
        return TimedOperator(
            name=operator.name,
            kind=operator.kind,
            component=operator.component,
            stream=self._stream(operator),
            duration_s=seconds,
            deps=operator.deps,
            collective=operator.collective is not None,
            bound=BOUNDS[int(estimate.bound)],
            flop=work.flop,
            traffic_bytes=work.traffic_bytes,
            energy_j=self.power.energy_j(work.flop, work.traffic_bytes, seconds),
        )

    def after_host(self, operators: tuple[TimedOperator, ...], running: float) -> tuple[TimedOperator, ...]:
        """The operators behind one host operator that everything waits for, where it takes time."""
        host_s = self.constants.host_base_s + self.constants.host_per_sequence_s * running
        host_s += self.constants.host_prefill_s if self.prefills else 0.0
        if host_s <= 0:
            return operators
        energy_j = self.power.energy_j(0.0, 0.0, host_s)
        host = TimedOperator(
            "host", "host", "host", Stream.COMPUTE, host_s, bound="launch", energy_j=energy_j
        )
        moved = (replace(op, deps=tuple(dep + 1 for dep in op.deps) or (0,)) for op in operators)
        return (host, *moved)

    def _stream(self, operator: Operator) -> Stream:
        beside = self.second_stream and is_shared_expert(operator)
        return Stream.SECOND_COMPUTE if beside else operator.stream

    def _seconds(self, operator: Operator, latency_s: float) -> float:
        if operator.collective is not None:
            return latency_s
        if operator.kind in BANDWIDTH_KINDS:
            return max(latency_s - self.launch_s, 0.0) + self.constants.small_kernel_s
        return self.scale * latency_s


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
