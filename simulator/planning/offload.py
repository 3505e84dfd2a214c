"""A step of a model that lies partly on one GPU, partly on its host: from all on the CPU to all on the GPU.

Operators run one after the other on the device of their place, copies between them; weights on disk are read
whole for every call. Overlap of copies with work, of the CPU with the GPU, and a stack's host time are not
modelled. The GPU's operators are priced as everywhere; the host's as `host` says, so that the grade is D.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hardware_specs.library import load_system
from hardware_specs.records.errors import DoesNotFitError, InputError, Problem
from hardware_specs.records.evidence import Estimate, Grade
from model_graphs.configs import resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.graph import Block, Operator, OperatorGraph, Stream
from model_graphs.graph_io import load_graph
from model_graphs.placement import Place, PlacementPlan, layers_on_gpu
from model_graphs.placing import (
    COPY,
    apply_placement,
    crossing_bytes,
    device_of,
    weight_bytes_by_place,
)
from model_graphs.precision import apply_precision
from model_graphs.runs.records import StepRun
from model_graphs.totals import cache_groups, stored_weight_bytes
from simulator.costs.calibration import calibrations_with
from simulator.costs.estimates import BOUNDS
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator
from simulator.costs.pricing import UNMEASURED_LOG_HALF_WIDTH
from simulator.engine.streams import run_step
from simulator.planning.host import Host
from simulator.planning.memory import memory_demand, usable_bytes
from simulator.prepared import kv_dtype_of
from simulator.scenario.model import Deployment
from simulator.stacks.library import load_stack
from simulator.step.pricing import Point, operator_work
from simulator.step.program import PREVIOUS_BLOCK, StepProgram, TimedBlock, TimedOperator, unroll
from simulator.step_forecast import check_step, step_point


@dataclass(frozen=True)
class OffloadStep:
    """A placed step: its latency in ms, where its seconds go, and what lies and moves where, in bytes.

    `seconds` has `gpu`, `cpu`, `copy` and `disk`, those without any left out; spans carry no energy. `lack`
    says which memory is too small for the plan, where one is: the step is then that of a larger one.
    """

    plan: PlacementPlan
    n_gpu_layers: int
    latency: Estimate
    seconds: Mapping[str, float]
    weight_bytes: Mapping[Place, int]
    cache_bytes: Mapping[Place, float]
    crossing_bytes: float
    run: StepRun
    lack: DoesNotFitError | None


class Offload:
    """Steps of one deployment on one device and its host, under any plan.

    A step has `batch` sequences; `length` and `past` are those of `simulator.step_forecast.forecast_step`.

    Raises:
        InputError: the step or the deployment is wrong, or the node's host is not described.
    """

    def __init__(self, deployment: Deployment, phase: str, batch: int, length: int, past: int = 0) -> None:
        check_step(phase, batch, length, past)
        _check_one_device(deployment)
        self.deployment = deployment
        self.model = resolve_model(deployment.model)
        self.system = load_system(deployment.system)
        self.host = Host.of(self.system)
        self.point = step_point(phase, batch, length, past)
        architecture = self.system.device.architecture
        self._stack = load_stack(deployment.stack, deployment.stack_version, deployment.date, architecture)
        self._kv_dtype = kv_dtype_of(deployment, self._stack, architecture)
        self._graph = load_graph(self.model, phase)
        self._layer_names = [layer.name for layer in self.model.blueprint.layers]
        calibrations = calibrations_with(deployment.calibration, deployment.system)
        library = KernelLibrary(self.system, deployment.stack, calibrations)
        self._pricer = _StepPricer(library, self.host, self.point)

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return len(self._layer_names)

    def step(self, plan: PlacementPlan) -> OffloadStep:
        """The step under the plan.

        Raises:
            InputError: the plan does not fit the model.
            DoesNotFitError: what it puts on the GPU or the CPU does not fit that memory.
        """
        found = self._priced(plan)
        if found.lack is not None:
            raise found.lack
        return found

    def curve(self, n_points: int = 13) -> tuple[OffloadStep, ...]:
        """The step with more and more layers on the GPU, from none to all, whether they fit or not.

        The last number of layers that fits and the next one are always among the points.
        """
        last, steps = self.n_layers, max(n_points - 1, 1)
        counts = {round(i * last / steps) for i in range(steps + 1)}
        fitting = self.most_layers_on_gpu()
        counts |= {fitting, min(fitting + 1, last)}
        return tuple(self._priced(layers_on_gpu(n, last)) for n in sorted(counts))

    def most_layers_on_gpu(self) -> int:
        """The most layers that the GPU's memory holds."""

        def is_too_many(n: int) -> bool:
            return self._gpu_lack(self._placed(layers_on_gpu(n, self.n_layers))) is not None

        return bisect_right(range(self.n_layers + 1), False, key=is_too_many) - 1

    def _placed(self, plan: PlacementPlan) -> OperatorGraph:
        supported = frozenset(dtype for dtype in COMPUTE_DTYPES if self.system.device.supports(dtype))
        storage = self.model.storage(self.deployment.precision)
        placed = apply_placement(self._graph, plan, self._layer_names)
        return apply_precision(placed, storage, self._kv_dtype, supported)

    def _priced(self, plan: PlacementPlan) -> OffloadStep:
        graph = self._placed(plan)
        run = run_step(StepProgram(unroll(self._pricer.blocks(graph))))
        run = replace(run, spans=tuple(replace(span, energy_j=None) for span in run.spans))
        cache = {device: cache_bytes(graph, device, self.point) for device in (Place.CPU, Place.GPU)}
        crossed = crossing_bytes(graph).values()
        return OffloadStep(
            plan=plan,
            n_gpu_layers=_layers_on_gpu(graph),
            latency=Estimate.from_log_half_width(
                run.makespan_s * 1e3, UNMEASURED_LOG_HALF_WIDTH, "ms", Grade.D
            ),
            seconds=_seconds(run),
            weight_bytes=weight_bytes_by_place(graph),
            cache_bytes={device: n_bytes for device, n_bytes in cache.items() if n_bytes},
            crossing_bytes=sum(float(n_bytes.evaluate(self.point)) for n_bytes in crossed),
            run=run,
            lack=self._lack(graph),
        )

    def _lack(self, graph: OperatorGraph) -> DoesNotFitError | None:
        """Which memory is too small, the CPU's or the GPU's. Drives are taken to hold what they are given."""
        needed = weight_bytes_by_place(graph).get(Place.CPU, 0) + cache_bytes(graph, Place.CPU, self.point)
        if needed > self.host.memory_bytes:
            return DoesNotFitError(self._label("CPU"), needed, self.host.memory_bytes)
        return self._gpu_lack(graph)

    def _gpu_lack(self, graph: OperatorGraph) -> DoesNotFitError | None:
        weights, rules = weight_bytes_by_place(graph).get(Place.GPU, 0), self._stack.rules
        if not weights:
            return None
        tokens = int(self.point["B"] * self.point["S"])
        activations = memory_demand(graph, tokens, self.model.key).activation_bytes
        needed = weights + activations + rules.workspace.value
        capacity = self.system.device.memory.capacity_bytes.value
        usable = usable_bytes(capacity, needed, rules, self.deployment.gpu_memory_fraction)
        needed += cache_bytes(graph, Place.GPU, self.point)
        return DoesNotFitError(self._label("GPU"), needed, usable) if needed > usable else None

    def _label(self, device: str) -> str:
        return f"{self.model.key} in {self.deployment.precision}, its part on the {device}"


def cache_bytes(graph: OperatorGraph, device: Place, point: Point) -> float:
    """Bytes of the cache of all sequences in the layers of a placed graph that run on the device."""
    blocks = tuple(block for block in graph.blocks if _keeps_cache_on(block, device))
    tokens = point["S"] + point["T"]
    return point["B"] * sum(
        group.bytes_per_token * min(tokens, group.window or tokens) + group.bytes_per_sequence
        for group in cache_groups(replace(graph, blocks=blocks))
    )


def _layers_on_gpu(graph: OperatorGraph) -> int:
    return sum(block.repeat for block in graph.blocks if _keeps_cache_on(block, Place.GPU))


def _keeps_cache_on(block: Block, device: Place) -> bool:
    return any(op.kind == "kv_append" and device_of(Place(op.place)) is device for op in block.operators)


def _check_one_device(deployment: Deployment) -> None:
    widths = {name: getattr(deployment, name) for name in ("gpus", "tp", "dp", "ep", "pp")}
    requirement = "must be 1 under a placement plan, which splits a model over one device and its host"
    problems = [Problem(requirement, str(n), path=name) for name, n in widths.items() if n != 1]
    if problems:
        raise InputError(*problems)


class _StepPricer:
    """Prices every operator on the device of its place, each after the one before it."""

    def __init__(self, library: KernelLibrary, host: Host, point: Point) -> None:
        self.library = library
        self.host = host
        self.point = point
        self.sampled = {**point, "B": max(point["B"], 1.0), "S": 1.0, "T": 0.0}

    def blocks(self, graph: OperatorGraph) -> Iterator[TimedBlock]:
        """The blocks with their operators timed."""
        for block in graph.blocks:
            at = self.sampled if block.name == "head" else self.point
            timed = [one for op in block.operators for one in self._timed(op, at)]
            chained = (replace(one, deps=(i - 1 if i else PREVIOUS_BLOCK,)) for i, one in enumerate(timed))
            yield TimedBlock(block.name, block.repeat, tuple(chained))

    def _timed(self, op: Operator, at: Point) -> Iterator[TimedOperator]:
        if op.kind == COPY:
            n_bytes = float(op.activation_write_bytes.evaluate(at))
            yield self._moving(op, op.name, n_bytes, self.host.copy_s(n_bytes), "network")
            return
        place = Place(op.place)
        if place is Place.DISK and (n_bytes := stored_weight_bytes(op)):
            yield self._moving(op, f"{op.name}.read", n_bytes, self.host.read_s(n_bytes), "memory", "read")
        work = operator_work(op, at)
        if place is Place.GPU:
            priced = price_operator(self.library, op, at)
            seconds, bound = float(priced.latency_s), BOUNDS[int(priced.bound)]
        else:
            seconds, bound = self.host.compute_s(work.flop, work.traffic_bytes)
        yield TimedOperator(
            name=op.name,
            kind=op.kind,
            component=op.component,
            stream=op.stream,
            duration_s=seconds,
            bound=bound,
            flop=work.flop,
            traffic_bytes=work.traffic_bytes,
        )

    def _moving(
        self, op: Operator, name: str, n_bytes: float, seconds: float, bound: str, kind: str = COPY
    ) -> TimedOperator:
        return TimedOperator(
            name, kind, op.component, Stream.COPY, seconds, bound=bound, traffic_bytes=n_bytes
        )


def _seconds(run: StepRun) -> dict[str, float]:
    """Busy seconds by where they are spent; they add up to the step."""
    names = {Stream.COMPUTE.value: "gpu", Stream.HOST.value: "cpu"}
    spent: dict[str, float] = defaultdict(float)
    for span in run.spans:
        where = names.get(span.stream) or ("disk" if span.kind == "read" else COPY)
        spent[where] += span.end_s - span.start_s
    return dict(spent)
