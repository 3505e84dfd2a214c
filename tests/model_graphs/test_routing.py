"""The routing pass: the law and the redundant copies of experts on a rank of eight."""

from model_graphs.configs import resolve_model
from model_graphs.graph import Operator, OperatorGraph, Role
from model_graphs.graph_io import load_graph
from model_graphs.layout import Layout, apply_layout
from model_graphs.precision import apply_precision
from model_graphs.routing import apply_routing
from model_graphs.totals import weight_bytes_per_rank

V3 = resolve_model("deepseek-v3").config
#: an expert of V3 in bf16: three products of 7168 x 2048
EXPERT_BYTES = 3 * 7168 * 2048 * 2
MOE_LAYERS = 58


def on_eight_ranks() -> OperatorGraph:
    return apply_layout(load_graph("deepseek-v3", "decode"), Layout.of(V3.blueprint, gpus=8, tp=8, ep=8))


def experts_of(graph: OperatorGraph) -> list[Operator]:
    return [op for block in graph.blocks for op in block.operators if op.kind == "moe_experts"]


def test_a_rank_stores_its_copies_in_every_layer() -> None:
    plain = on_eight_ranks()
    copied = apply_routing(plain, "power_law_eplb32", 4)
    assert weight_bytes_per_rank(copied) - weight_bytes_per_rank(plain) == 4 * EXPERT_BYTES * MOE_LAYERS
    for operator in experts_of(copied):
        assert {int(t.shape[0]) for t in operator.inputs if t.role is Role.WEIGHT} == {36}
        assert operator.attrs["n_local_experts"] == 32  # what is chosen from stays
        assert operator.attrs["distribution"] == "power_law_eplb32"


def test_without_copies_only_the_law_is_noted() -> None:
    plain = apply_precision(on_eight_ranks(), None, "fp8", frozenset({"bf16"}))
    noted = apply_routing(plain, "balanced", 0)
    assert weight_bytes_per_rank(noted) == weight_bytes_per_rank(plain)
    assert {op.attrs["distribution"] for op in experts_of(noted)} == {"balanced"}
    for before, after in zip(plain.blocks, noted.blocks, strict=True):
        others = [op for op in before.operators if op.kind != "moe_experts"]
        assert others == [op for op in after.operators if op.kind != "moe_experts"]
