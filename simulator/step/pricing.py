"""One step priced operator by operator: the program that the step engine runs, and the work it stands for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np

from hardware_specs.records.evidence import Grade, worst
from model_graphs.graph import Block, Operator, OperatorGraph, Stream
from simulator.costs.energy import PowerModel
from simulator.costs.engines import ENGINE_LOG_HALF_WIDTH, Engine
from simulator.costs.estimates import BOUNDS
from simulator.costs.expert_load import expert_load
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import law_of, price_operator, traffic_bytes
from simulator.step.components import BANDWIDTH_KINDS, is_shared_expert
from simulator.step.constants import StackConstants
from simulator.step.program import StepProgram, TimedBlock, TimedOperator, unroll

Point = Mapping[str, float]


@dataclass(frozen=True)
class Work:
    """Arithmetic and memory traffic of one rank in one step, and what an engine has of it.

    `flop` and `traffic_bytes` are of both; `engine_j` is spent inside the engine for `engine_flop`.
    """

    flop: float
    traffic_bytes: float
    engine_flop: float = 0.0
    engine_j: float = 0.0

    def energy_j(self, power: PowerModel, seconds: float) -> float:
        """Joules of the work in that time, active watts included."""
        return power.energy_j(self.flop - self.engine_flop, self.traffic_bytes, seconds) + self.engine_j


@dataclass(frozen=True)
class PricedStep:
    """A step ready to run, with the weakest grade and the widest evidence of its parts.

    `engine_log_half_width` is what an engine's share of the operators' time adds to the step's interval.
    """

    program: StepProgram
    grade: Grade
    engine_log_half_width: float
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
    return PricedStep(
        StepProgram(operators, n_ranks),
        worst(*pricer.grades),
        ENGINE_LOG_HALF_WIDTH * _engine_share(graph, blocks, library.engine),
        tuple(sorted(pricer.evidence)),
    )


def _engine_share(graph: OperatorGraph, blocks: Sequence[TimedBlock], engine: Engine | None) -> float:
    """The engine's share of the operators' time."""
    if engine is None:
        return 0.0
    pairs = [
        (block.repeat * float(np.max(timed.duration_s)), engine.runs(operator))
        for block, made in zip(graph.blocks, blocks, strict=True)
        for operator, timed in zip(block.operators, made.operators, strict=True)
    ]
    return sum(seconds for seconds, runs in pairs if runs) / sum(seconds for seconds, _ in pairs)


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
        work = operator_work(operator, at, self.library.engine)
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
            energy_j=work.energy_j(self.power, seconds),
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


def operator_work(operator: Operator, at: Point, engine: Engine | None = None) -> Work:
    """FLOP that real kernels do (causal) and bytes moved; of routed experts, only those that are hit."""
    flop = float(operator.causal_flop.evaluate(at))
    if engine is not None and engine.runs(operator):
        done = engine.work(operator, at)
        return Work(flop, done.traffic_bytes, flop, done.energy_j)
    traffic = float(traffic_bytes(operator, at))
    if operator.kind == "moe_experts":
        traffic -= float(operator.weight_bytes.evaluate(at)) * (1 - hit_fraction(operator, at))
    return Work(flop, traffic)


def hit_fraction(operator: Operator, at: Point) -> float:
    """Share of the experts of all ranks that at least one token chose: a mean, as energy is of all ranks."""
    n_experts, topk = int(operator.attrs["n_experts"]), int(operator.attrs["topk"])
    tokens = np.array([float(np.prod([d.evaluate(at) for d in operator.inputs[0].shape[:-1]]))])
    load = expert_load(tokens, n_experts, topk, 1, law_of(operator))
    return float(np.clip(load.active[0] / n_experts, 0.0, 1.0))


def graph_work(graph: OperatorGraph, at: Point, sampled: float, engine: Engine | None = None) -> Work:
    """Work of one rank in one step of the graph."""
    head = dict(at, B=sampled, S=1.0, T=0.0)
    parts = (_block_work(block, head if block.name == "head" else at, engine) for block in graph.blocks)
    return total_work((part, 1.0) for part in parts)


def _block_work(block: Block, at: Point, engine: Engine | None) -> Work:
    return total_work((operator_work(op, at, engine), float(block.repeat)) for op in block.operators)


def total_work(parts: Iterable[tuple[Work, float]]) -> Work:
    """The sum of works, each so many times."""
    listed = [(astuple(work), times) for work, times in parts]
    return Work(*(sum(work[i] * times for work, times in listed) for i in range(len(fields(Work)))))
