"""Does it fit: weights, KV cache, activations and workspace of one device, each shown.

A device's capacity is what its driver reports. The stack decides which fraction of it the engine may use and how
much it keeps as workspace.
"""

from dataclasses import dataclass

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import DoesNotFitError
from model_graphs.layout import Layout
from model_graphs.totals import CacheGroup, weight_bytes_per_rank
from simulator.forecast import MemoryFit, MemoryTerm
from simulator.stacks.model import StackVersion


@dataclass(frozen=True)
class MemoryDemand:
    """What a layout asks of one device, before the cache."""

    weights_bytes: float
    activation_bytes: float


def memory_fit(
    system: SystemSpec,
    stack: StackVersion,
    demand: MemoryDemand,
    groups: tuple[CacheGroup, ...],
    tp: int,
    memory_fraction: float | None = None,
    longest_request_tokens: int = 1,
) -> MemoryFit:
    """The fit of one device.

    Raises:
        DoesNotFitError: the weights and workspace leave no room for the longest request.
    """
    capacity = system.device.memory.capacity_bytes.value
    usable = capacity * (memory_fraction or stack.memory_fraction.value)
    terms = (
        MemoryTerm("weights", demand.weights_bytes, "rank-local, at the stored precision with scales"),
        MemoryTerm("activations", demand.activation_bytes, "largest step of the token budget"),
        MemoryTerm("workspace", stack.workspace_bytes.value, stack.workspace_bytes.source),
    )
    needed = sum(term.needed_bytes for term in terms)
    per_token = kv_bytes_per_token(groups, tp)
    left = usable - needed
    if left < per_token * longest_request_tokens:
        raise DoesNotFitError(
            f"one rank on {system.key} (weights {demand.weights_bytes / 2**30:.1f} GiB, "
            f"cache of one request of {longest_request_tokens} tokens {per_token * longest_request_tokens / 2**30:.2f} GiB)",
            needed + per_token * longest_request_tokens,
            usable,
        )
    return MemoryFit(
        terms=terms,
        capacity_bytes=capacity,
        usable_bytes=usable,
        kv_bytes_per_token=per_token,
        kv_capacity_tokens=int(left // per_token),
    )


def kv_bytes_per_token(groups: tuple[CacheGroup, ...], tp: int) -> float:
    """Cache bytes of a token on one rank: latent caches are replicated over `tp`, head caches are divided."""
    return sum(group.bytes_per_token for group in groups)
