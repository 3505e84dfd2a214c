from pathlib import Path

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.graph_io import load_graph
from model_graphs.layout import Layout, apply_layout
from model_graphs.totals import graph_work, weight_bytes_per_rank
from model_graphs.transform_pass import apply_plan
from model_graphs.transforms import PLANS, Plan, Pruning, Rule, pruned_plan, resolve_plan

DECODE = load_graph("deepseek-v3", "decode")


def stored(plan: Plan) -> int:
    return weight_bytes_per_rank(apply_plan(DECODE, plan, COMPUTE_DTYPES))


def test_the_first_rule_that_fits_decides() -> None:
    first = Rule(products=("*.o_proj",), weights="int4_g128")
    plan = Plan(name="two", rules=(first, Rule(products=("attention",), weights="int8")))
    assert plan.rule_for("linear", "attention", "self_attn.o_proj") is first
    assert plan.rule_for("linear", "attention", "self_attn.q_b_proj") is plan.rules[1]
    assert plan.rule_for("linear", "mlp", "mlp.down_proj") is None
    assert plan.rule_for("mla_absorb_q", "attention", "self_attn.absorb_q") is None


def test_fewer_bits_and_more_zeros_store_fewer_bytes() -> None:
    by_bits = [stored(PLANS[name]) for name in ("bf16", "int8_weights", "int6", "int4", "int3", "int2")]
    by_zeros = [stored(pruned_plan(fraction)) for fraction in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert by_bits == sorted(by_bits, reverse=True)
    assert by_zeros == sorted(by_zeros, reverse=True)


def test_a_bitmap_costs_more_than_it_saves_below_a_sixteenth_of_zeros() -> None:
    # 16 bits a weight: one bit of bitmap is paid back by 1/16 of zeros
    assert stored(pruned_plan(0.05)) > stored(PLANS["bf16"]) > stored(pruned_plan(0.07))


def test_two_of_four_halves_the_work_of_inner_products_and_unstructured_zeros_leave_it() -> None:
    plain, halved = graph_work(DECODE), graph_work(apply_plan(DECODE, PLANS["2of4"], COMPUTE_DTYPES))
    zeros = graph_work(apply_plan(DECODE, pruned_plan(0.9), COMPUTE_DTYPES))
    point = {"B": 1, "T": 4095}
    inner = sum(
        op.flop.exact(point)
        for _, _, op in DECODE.instances()
        if PLANS["2of4"].rule_for(op.kind, op.component, op.name)
    )
    assert plain.flop.exact(point) - halved.flop.exact(point) == inner // 2
    assert zeros.flop == plain.flop


def test_an_input_scaled_as_a_whole_is_read_twice() -> None:
    by_block = graph_work(apply_plan(DECODE, PLANS["fp8"], COMPUTE_DTYPES))
    as_whole = graph_work(apply_plan(DECODE, PLANS["int8"], COMPUTE_DTYPES))
    assert as_whole.activation_read_bytes.exact({"B": 8, "T": 0}) > by_block.activation_read_bytes.exact(
        {"B": 8, "T": 0}
    )


def test_one_tensor_under_two_types_is_quantised_once_into_each() -> None:
    graph = apply_plan(DECODE, PLANS["fp8_int8"], COMPUTE_DTYPES)
    layer = next(block for block in graph.blocks if block.name == "moe_layer")
    names = {op.name: op.outputs[0].dtype for op in layer.operators if op.kind == "quantize"}
    assert names["mlp.routed.experts.quantize"] == "int8"
    assert names["mlp.shared_experts.gate_up_proj.quantize"] == "fp8_block"


def test_a_device_without_the_unit_stores_and_notes_each_type() -> None:
    graph = apply_plan(DECODE, PLANS["fp8_int8"], {"bf16"})
    assert {op.compute_dtype for _, _, op in graph.instances()} == {"bf16"}
    assert graph.notes == (
        "weights are stored in int8 and computed in bf16: the device has no int8 unit",
        "weights are stored in fp8_block and computed in bf16: the device has no fp8_block unit",
    )


def test_groups_that_a_layout_cuts_are_noted() -> None:
    v3 = resolve_model("deepseek-v3").blueprint
    local = apply_layout(DECODE, Layout.of(v3, gpus=32, tp=32))
    (note,) = apply_plan(local, PLANS["int4"], COMPUTE_DTYPES).notes
    assert "128-wide blocks of int4_g128" in note


def test_a_plan_file_says_the_same_as_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "schema_version: 1\n"
        "name: mine\n"
        "rules:\n"
        "  - products: [attention, mlp]\n"
        "    weights: fp8_block\n"
        "    inputs: fp8_block\n"
        "  - products: [moe]\n"
        "    pruning: {pattern: unstructured, fraction: 0.7}\n",
        encoding="utf-8",
    )
    expected = Plan(
        name="mine",
        rules=(
            Rule(products=("attention", "mlp"), weights="fp8_block", inputs="fp8_block"),
            Rule(products=("moe",), pruning=Pruning(pattern="unstructured", fraction=0.7)),
        ),
    )
    assert resolve_plan(str(path)) == expected
    assert expected.rules[1].storage == "bf16:0.7"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("weights: int5", "must be one of bf16, fp8"),
        ("weights: int4_g128\n    inputs: int8", "must be bf16 or int4_g128 beside weights in int4_g128"),
        (
            "weights: int4_g128\n    inputs: int4_g128",
            "must be one of bf16, fp8, fp8_block, nvfp4, mxfp8, int8",
        ),
        ("pruning: {pattern: 2of4, fraction: 0.7}", "must be 0.5 under 2of4"),
        ("accumulation: fp16", "accumulation"),
    ],
)
def test_a_rule_that_nothing_can_follow_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(f"name: bad\nrules:\n  - products: [moe]\n    {text}\n", encoding="utf-8")
    with pytest.raises(InputError, match=words):
        resolve_plan(str(path))


def test_an_unknown_plan_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean int4"):
        resolve_plan("int4x")
    with pytest.raises(InputError, match="at least 0 and below 1"):
        pruned_plan(1.0)
