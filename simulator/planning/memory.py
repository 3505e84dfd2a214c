"""Does it fit: weights, activations, workspace and KV cache of one device, each shown.

A device's capacity is what its driver reports; the stack says which fraction of it the engine may use and how
much it keeps as workspace. A replica fits when every rank holds its weights and the cache of at least one
request.
"""

from dataclasses import dataclass

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import DoesNotFitError
from model_graphs.graph import OperatorGraph
from model_graphs.totals import cache_groups, weight_bytes_per_rank
from simulator.forecast import MemoryFit, MemoryTerm
from simulator.stacks.model import StackRules

GIB = 2**30


@dataclass(frozen=True)
class MemoryDemand:
    """What one rank of a layout asks of its device. `label` names the layout in errors."""

    weights_bytes: float
    activation_bytes: float
    kv_bytes_per_token: float
    kv_bytes_per_sequence: float
    label: str


def memory_demand(graph: OperatorGraph, step_tokens: int, label: str) -> MemoryDemand:
    """The demand of a rank whose prefill graph this is, after its layout and precision.

    A group with a window holds that many tokens of each sequence, and a group without one all of them.

    Activations are the largest operator's operands in a step that uses its whole token budget.
    """
    groups = cache_groups(graph)
    point = {"B": 1, "S": step_tokens, "T": 0}
    activations = max(
        float(op.activation_read_bytes.evaluate(point) + op.activation_write_bytes.evaluate(point))
        for block in graph.blocks
        if block.name != "head"
        for op in block.operators
    )
    return MemoryDemand(
        weights_bytes=float(weight_bytes_per_rank(graph)),
        activation_bytes=activations,
        kv_bytes_per_token=float(sum(g.bytes_per_token for g in groups if g.window is None)),
        kv_bytes_per_sequence=float(
            sum(g.bytes_per_sequence + (g.window or 0) * g.bytes_per_token for g in groups)
        ),
        label=label,
    )


def memory_fit(
    system: SystemSpec,
    rules: StackRules,
    demand: MemoryDemand,
    *,
    memory_fraction: float | None = None,
    request_tokens: int = 1,
    nearest_fit: str = "",
) -> MemoryFit:
    """The fit of one device.

    Raises:
        DoesNotFitError: nothing is left for the cache of one request of `request_tokens`.
    """
    capacity = system.device.memory.capacity_bytes.value
    terms = (
        MemoryTerm("weights", demand.weights_bytes, "of one rank, as stored, scales included"),
        MemoryTerm("activations", demand.activation_bytes, "largest operator at the step's token budget"),
        MemoryTerm("workspace", rules.workspace.value, rules.workspace.source),
    )
    needed = sum(term.needed_bytes for term in terms)
    usable = usable_bytes(capacity, needed, rules, memory_fraction)
    cache = demand.kv_bytes_per_token * request_tokens + demand.kv_bytes_per_sequence
    if needed + cache > usable:
        raise DoesNotFitError(f"{demand.label} on {system.key}", needed + cache, usable, nearest_fit)
    return MemoryFit(
        terms=terms,
        capacity_bytes=capacity,
        usable_bytes=usable,
        kv_bytes_per_token=demand.kv_bytes_per_token,
        kv_capacity_tokens=int((usable - needed) // demand.kv_bytes_per_token),
        kv_bytes_per_sequence=demand.kv_bytes_per_sequence,
    )


def usable_bytes(capacity: float, needed: float, rules: StackRules, fraction: float | None) -> float:
    """Bytes of a device that the engine may use: a share of all, or all it needs and a share of the rest."""
    share = fraction or rules.memory_fraction.value
    if rules.memory_rule == "of_total" or needed > capacity:
        return capacity * share
    return needed + (capacity - needed) * share
