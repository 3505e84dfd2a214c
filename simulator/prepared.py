"""A deployment made ready: names resolved, rank-local graphs, memory fit, and the ingredients of its steps.

Everything here depends on the deployment and on shipped data only, never on the workload, so it is made once
and kept by content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import hypot
from pathlib import Path

from hardware_specs.library import load_system
from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import DoesNotFitError, InputError, Problem
from hardware_specs.records.hashing import content_hash
from model_graphs.configs import ModelRecord, resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.graph import OperatorGraph
from model_graphs.graph_io import load_graph, phases_of
from model_graphs.layout import Layout, apply_layout
from model_graphs.precision import apply_precision
from model_graphs.routing import apply_routing
from model_graphs.runs.records import ServingRun
from model_graphs.transforms import pruning_named
from simulator.costs.calibration import calibrations_with
from simulator.costs.engines import Engine
from simulator.costs.expert_load import routing_law
from simulator.costs.library import KernelLibrary
from simulator.forecast import MemoryFit
from simulator.planning.memory import memory_demand, memory_fit
from simulator.scenario.model import Deployment
from simulator.serving.options import EngineOptions
from simulator.serving.policy import policy_named
from simulator.serving.simulate import simulate_serving
from simulator.serving.workload import Requests
from simulator.stacks.library import Stack, load_stack
from simulator.stacks.model import tier_value
from simulator.step.build import step_table
from simulator.step.components import ComponentBuilder, StepComponents
from simulator.step.constants import StackConstants
from simulator.step.table import StepTable


@dataclass(frozen=True)
class Deployed:
    """A deployment with its names resolved: the graphs of a rank by phase, and what prices them."""

    deployment: Deployment
    model: ModelRecord
    system: SystemSpec
    stack: Stack
    layout: Layout
    kv_dtype: str
    graphs: Mapping[str, OperatorGraph]
    library: KernelLibrary

    @property
    def calibration_hash(self) -> str:
        """Hash of the user's calibration file; empty where there is none."""
        path = self.deployment.calibration
        return content_hash(Path(path)) if path else ""


@dataclass(frozen=True)
class Prepared(Deployed):
    """What `prepare` makes of a deployment that generates tokens."""

    components: StepComponents
    memory: MemoryFit
    notes: tuple[str, ...]

    @property
    def step_tokens(self) -> int:
        """Token budget of a step on one attention rank."""
        tier = tier_value(self.stack.rules.step_tokens, self.system.device.memory.capacity_bytes.value)
        return self.deployment.step_tokens or int(tier.value)

    @property
    def max_running(self) -> int:
        """Cap on running sequences of one attention rank."""
        tier = tier_value(self.stack.rules.max_running, self.system.device.memory.capacity_bytes.value)
        return self.deployment.max_running or int(tier.value)

    @property
    def tpot_log_half_width(self) -> float:
        """90% half width of step times: that of the stack, and of what an engine takes of them."""
        return hypot(self.stack.tpot_log_half_width, self.components.engine_log_half_width)

    @property
    def ttft_log_half_width(self) -> float:
        """90% half width of TTFT, in the same way."""
        return hypot(self.stack.ttft_log_half_width, self.components.engine_log_half_width)

    @property
    def _policy(self) -> str:
        mixes = self.deployment.mixed_chunk and self.stack.rules.policy == "sglang_prefill_first"
        return "sglang_mixed" if mixes else self.stack.rules.policy

    def engine_options(self, first_token_s: float, stream_interval_steps: float) -> EngineOptions:
        """The serving engine's options under this stack."""
        rules = self.stack.rules
        wait_steps = (self.deployment.poll_interval_steps - 1) / 2
        if self.layout.dp > 1:
            wait_steps += rules.attention_dp_wait_steps.value
        return EngineOptions(
            policy=policy_named(self._policy, self.deployment.prompts_per_step),
            step_tokens=self.step_tokens,
            max_running=self.max_running,
            kv_capacity_tokens=self.memory.kv_capacity_tokens,
            kv_reserve_output_fraction=rules.kv_reserve_output_fraction.value,
            first_token_s=first_token_s,
            stream_interval_steps=stream_interval_steps + wait_steps,
            frontend_s_per_token=rules.frontend_s_per_token.value,
            replicas=self.deployment.replicas,
            kv_tokens_per_sequence=self.memory.kv_tokens_per_sequence,
        )

    def table(self, constants: StackConstants) -> StepTable:
        """The step table under these constants."""
        return step_table(self.components, constants, self.step_tokens + self.max_running)

    def serve(
        self, constants: StackConstants, table: StepTable, requests: Requests, seed: int = 0
    ) -> ServingRun:
        """One serving run of the whole deployment under these constants and this clock."""
        options = self.engine_options(constants.first_token_s, constants.stream_interval_steps)
        return simulate_serving(table, options, requests, seed)


@lru_cache(maxsize=256)
def prepare(deployment: Deployment) -> Prepared:
    """The deployment made ready to generate tokens.

    Raises:
        InputError: a name is unknown, a width does not divide, a dtype is not known, or the model is an
            encoder.
        DoesNotFitError: the model does not fit the memory of its devices.
    """
    found = deploy(deployment)
    graphs, layout = found.graphs, found.layout
    if "decode" not in graphs:
        requirement = "must generate tokens; an encoder has `silicast step --phase encode`"
        raise InputError(Problem(requirement, found.model.key, path="deployment.model"))
    memory = _memory(deployment, found.model, found.system, found.stack, graphs["prefill"], found.kv_dtype)
    second = found.stack.rules.second_stream_tokens.value
    builder = ComponentBuilder(found.library, graphs["decode"], graphs["prefill"], layout.dp, second)
    return Prepared(
        **vars(found),
        components=builder.build(),
        memory=memory,
        notes=(*found.model.notes, *graphs["decode"].notes, *_engine_notes(found)),
    )


def deploy(deployment: Deployment) -> Deployed:
    """The deployment with its names resolved.

    Raises:
        InputError: a name is unknown, a width does not divide, or a dtype is not known.
    """
    model = resolve_model(deployment.model, approximate=deployment.approximate)
    system = load_system(deployment.system)
    stack = load_stack(
        deployment.stack, deployment.stack_version, deployment.date, system.device.architecture
    )
    layout = deployment_layout(deployment, model)
    kv_dtype = kv_dtype_of(deployment, stack, system.device.architecture)
    calibrations = calibrations_with(deployment.calibration, deployment.system)
    graphs = rank_graphs(deployment, model, system, layout, kv_dtype)
    engine = Engine.of(system.device, next(iter(graphs.values())))
    return Deployed(
        deployment=deployment,
        model=model,
        system=system,
        stack=stack,
        layout=layout,
        kv_dtype=kv_dtype,
        graphs=graphs,
        library=KernelLibrary(system, deployment.stack, calibrations, engine=engine),
    )


def _engine_notes(deployed: Deployed) -> tuple[str, ...]:
    """What an engine of the device does, and whether anything skips the zeros of pruned weights."""
    engine, pruning = deployed.library.engine, pruning_named(deployed.deployment.pruning)
    notes = engine.notes if engine else ()
    if pruning is None or deployed.system.device.skips_zeros(pruning.pattern):
        return notes
    unused = (
        f"no engine of this device skips {pruning.pattern} zeros: weights are stored and multiplied densely"
    )
    return (*notes, unused)


def encoder_memory(deployed: Deployed, batch: int, length: int) -> MemoryFit:
    """The fit of one rank of an encoder, which caches nothing.

    Raises:
        DoesNotFitError: weights and activations exceed what the stack may use.
    """
    graph, d = deployed.graphs["encode"], deployed.deployment
    demand = memory_demand(graph, batch * length, f"{deployed.model.key} {d.precision} tp{d.tp}")
    return memory_fit(deployed.system, deployed.stack.rules, demand, memory_fraction=d.gpu_memory_fraction)


def _memory(
    deployment: Deployment,
    model: ModelRecord,
    system: SystemSpec,
    stack: Stack,
    graph: OperatorGraph,
    kv_dtype: str,
) -> MemoryFit:
    """The memory fit of one rank; a failure names the narrowest replica that would hold the model."""
    d = deployment
    tokens = d.step_tokens or int(
        tier_value(stack.rules.step_tokens, system.device.memory.capacity_bytes.value).value
    )
    label = f"{model.key} {d.precision} tp{d.tp} dp{d.dp} ep{d.ep}"
    demand = memory_demand(graph, tokens, label)
    try:
        return memory_fit(system, stack.rules, demand, memory_fraction=d.gpu_memory_fraction)
    except DoesNotFitError as error:
        hint = nearest_fit(deployment, model, system, stack, kv_dtype)
        raise DoesNotFitError(error.what, error.needed_bytes, error.available_bytes, hint) from None


def nearest_fit(
    deployment: Deployment, model: ModelRecord, system: SystemSpec, stack: Stack, kv_dtype: str
) -> str:
    """The narrowest tensor-parallel replica of this system and precision that fits; empty if none does."""
    for width in (1, 2, 4, 8, 16, 32, 64, 128):
        wider = deployment.model_copy(update={"gpus": width, "tp": width, "dp": 1, "ep": 1, "pp": 1})
        try:
            layout = deployment_layout(wider, model)
            graph = _rank_graph("prefill", wider, model, system, layout, kv_dtype)
            demand = memory_demand(graph, 1, "")
            memory_fit(system, stack.rules, demand, memory_fraction=deployment.gpu_memory_fraction)
        except (InputError, DoesNotFitError):
            continue
        return f"{width} x {system.key} with tp {width} at {deployment.precision}"
    return ""


def deployment_layout(deployment: Deployment, model: ModelRecord) -> Layout:
    """The layout that a deployment's widths mean, checked against the model and the number of devices."""
    d = deployment
    return Layout.of(model.blueprint, gpus=d.gpus, tp=d.tp, dp=d.dp, ep=d.ep, pp=d.pp)


def rank_graphs(
    deployment: Deployment, model: ModelRecord, system: SystemSpec, layout: Layout, kv_dtype: str
) -> dict[str, OperatorGraph]:
    """Rank-local graphs of every phase but `mtp`, weights stored as the deployment says."""
    phases = [phase for phase in phases_of(model.blueprint) if phase != "mtp"]
    return {phase: _rank_graph(phase, deployment, model, system, layout, kv_dtype) for phase in phases}


def _rank_graph(
    phase: str, deployment: Deployment, model: ModelRecord, system: SystemSpec, layout: Layout, kv_dtype: str
) -> OperatorGraph:
    supported = frozenset(dtype for dtype in COMPUTE_DTYPES if system.device.supports(dtype))
    local = apply_layout(load_graph(model, phase), layout)
    storage, pruning = model.storage(deployment.precision), pruning_named(deployment.pruning)
    skipped = pruning if pruning and system.device.skips_zeros(pruning.pattern) else None
    stored = apply_precision(local, storage, kv_dtype, supported, skipped)
    law = routing_law(deployment.expert_load, "deployment.expert_load")
    return apply_routing(stored, deployment.expert_load, -(-law.copies // layout.ep) if law else 0)


def kv_dtype_of(deployment: Deployment, stack: Stack, architecture: str) -> str:
    """The cache's element type: what the deployment says, or the stack's default."""
    if deployment.kv_dtype != "auto":
        return deployment.kv_dtype
    defaults = stack.rules.kv_dtype
    keys = (f"{deployment.precision}/{architecture.lower()}", deployment.precision, "default")
    return next(defaults[key] for key in keys if key in defaults)
