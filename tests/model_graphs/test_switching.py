from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.graph_io import load_graph
from model_graphs.switching import both_forms_bytes, switch_graph
from model_graphs.totals import weight_bytes_per_rank
from model_graphs.transform_pass import apply_plan
from model_graphs.transforms import PLANS

DECODE = load_graph("deepseek-v3", "decode")


def stored(name: str) -> int:
    return weight_bytes_per_rank(apply_plan(DECODE, PLANS[name], COMPUTE_DTYPES))


def test_a_switch_reads_what_lies_there_and_writes_what_will() -> None:
    graph = switch_graph(DECODE, PLANS["bf16"], PLANS["fp8"])
    read = sum(int(op.weight_bytes) for _, _, op in graph.instances())
    written = sum(int(op.activation_write_bytes) for _, _, op in graph.instances())
    assert written - read == stored("fp8") - stored("bf16")


def test_a_switch_moves_only_what_differs() -> None:
    assert not switch_graph(DECODE, PLANS["fp8"], PLANS["fp8"]).instances()
    names = {op.component for _, _, op in switch_graph(DECODE, PLANS["fp8"], PLANS["fp8_int8"]).instances()}
    assert names == {"moe"}  # the mixed plan holds the rest in fp8 as well


def test_both_forms_hold_the_changed_weights_twice() -> None:
    both = both_forms_bytes(DECODE, PLANS["fp8"], PLANS["int8"])
    plain = sum(
        int(op.weight_bytes)
        for _, _, op in DECODE.instances()
        if op.kind != "embedding" and not PLANS["fp8"].rule_for(op.kind, op.component, op.name)
    )
    embedding = next(op for _, _, op in DECODE.instances() if op.kind == "embedding").inputs[1].shape
    once = plain + 2 * int(embedding[0]) * int(embedding[1])
    assert both == stored("fp8") + stored("int8") - once
