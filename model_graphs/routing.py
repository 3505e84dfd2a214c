"""The routing pass: which law the rows of experts follow, and the redundant copies that ranks hold."""

from dataclasses import replace

from model_graphs.graph import Operator, OperatorGraph, Role
from model_graphs.sharding import with_first_axis


def apply_routing(graph: OperatorGraph, law: str, copies_a_rank: int) -> OperatorGraph:
    """Rank-local experts that are chosen by `law`; a rank holds so many redundant copies beside its own."""
    blocks = tuple(
        replace(block, operators=tuple(_routed(operator, law, copies_a_rank) for operator in block.operators))
        for block in graph.blocks
    )
    return replace(graph, blocks=blocks)


def _routed(operator: Operator, law: str, copies: int) -> Operator:
    if operator.kind != "moe_experts":
        return operator
    held = int(operator.attrs["n_local_experts"])
    slots = held + copies
    return replace(
        operator,
        inputs=tuple(with_first_axis(t, slots) if t.role is Role.WEIGHT else t for t in operator.inputs),
        weight_bytes=operator.weight_bytes.divided(held) * slots,
        attrs={**operator.attrs, "distribution": law},
    )
