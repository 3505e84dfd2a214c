"""The transform pass against the reference implementation, exported with its products really packed."""

import pytest

from model_graphs.configs import resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.layout import Layout, apply_layout
from model_graphs.transform_pass import apply_plan
from model_graphs.transforms import PLANS, Plan, Rule, pruned_plan

pytest.importorskip("torch", reason="the reference implementation needs the extra [reference]")

from reference_impl.emission import emit

V3 = resolve_model("deepseek-v3").blueprint
TP8 = Layout.of(V3, gpus=8, tp=8)
BY_NAME = Plan(
    name="by name",
    rules=(
        Rule(products=("head",), weights="fp8_block", inputs="fp8_block"),
        Rule(products=("*.o_proj",), weights="int4_g128"),
        Rule(products=("mlp.*",), weights="int8", inputs="int8"),
    ),
)


def assert_pass_equals_export(phase: str, plan: Plan, layout: Layout | None = None) -> None:
    exported = emit(V3, phase, layout, plan=plan)
    plain = emit(V3, phase) if layout is None else apply_layout(emit(V3, phase), layout)
    passed = apply_plan(plain, plan, COMPUTE_DTYPES)
    for block, other in zip(exported.blocks, passed.blocks, strict=True):
        for operator, rewritten in zip(block.operators, other.operators, strict=True):
            assert rewritten == operator
    assert passed.blocks == exported.blocks


@pytest.mark.parametrize(
    "name", ["autocast", "fp8", "fp4", "int8", "int4", "fp8_int8", "fp8_2of4", "fp8_compensated_sums"]
)
def test_the_pass_gives_what_the_transformed_model_exports(name: str) -> None:
    assert_pass_equals_export("prefill" if name == "fp8" else "decode", PLANS[name])


def test_the_pass_gives_what_a_pruned_model_exports() -> None:
    assert_pass_equals_export("decode", pruned_plan(0.7))


def test_rules_by_name_choose_the_same_products_in_graph_and_model() -> None:
    assert_pass_equals_export("decode", BY_NAME)


@pytest.mark.parametrize("name", ["fp8", "autocast"])
def test_a_rank_of_a_layout_is_transformed_after_it_was_cut(name: str) -> None:
    assert_pass_equals_export("decode", PLANS[name], TP8)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("phase", ["prefill", "chunked_prefill", "decode", "mtp"])
@pytest.mark.parametrize("layout", [None, TP8])
def test_the_pass_gives_what_the_transformed_model_exports_in_every_phase(
    phase: str, name: str, layout: Layout | None
) -> None:
    assert_pass_equals_export(phase, PLANS[name], layout)
