from functools import cache

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.graph import Operator, OperatorGraph
from model_graphs.graph_io import PHASES, load_graph
from model_graphs.layout import Dispatch, Layout, apply_layout
from model_graphs.precision import apply_precision
from model_graphs.totals import graph_work, weight_bytes_per_rank

RECORD = resolve_model("deepseek-v3")
V3 = RECORD.config
stored_as = RECORD.storage
HOPPER = frozenset({"bf16", "fp8_block"})
ALL_TO_ALL = Layout.of(V3.blueprint, gpus=8, dp=8, ep=8, dispatch=Dispatch.ALL_TO_ALL)


@cache
def v3_graph(phase: str) -> OperatorGraph:
    return load_graph("deepseek-v3", phase)


def moe_layer(graph: OperatorGraph) -> dict[str, Operator]:
    return {op.name: op for block in graph.blocks if block.name == "moe_layer" for op in block.operators}


@pytest.mark.parametrize("phase", PHASES)
def test_bf16_changes_nothing(phase: str) -> None:
    assert apply_precision(v3_graph(phase), stored_as("bf16"), "bf16", COMPUTE_DTYPES) == v3_graph(phase)


def test_fp8_stores_linears_and_experts_in_blocks_and_leaves_the_rest() -> None:
    graph = apply_precision(v3_graph("decode"), stored_as("fp8"), "bf16", HOPPER)
    stored = {op.name: op.compute_dtype for op in moe_layer(graph).values() if op.compute_dtype != "bf16"}
    assert set(stored) == {
        "self_attn.q_kv_a_proj",
        "self_attn.q_b_proj",
        "self_attn.o_proj",
        "mlp.routed.experts",
        "mlp.shared_experts.gate_up_proj",
        "mlp.shared_experts.down_proj",
    }
    assert set(stored.values()) == {"fp8_block"}
    assert moe_layer(graph)["self_attn.o_proj"].weight_bytes.exact() == 7168 * 16384 + 56 * 128 * 4
    assert moe_layer(graph)["self_attn.absorb_q"].inputs[1].dtype == "bf16"
    assert graph.blocks[-1] == v3_graph("decode").blocks[-1]  # the head


def test_kv_b_is_a_stored_linear_only_where_keys_and_values_are_made() -> None:
    graph = apply_precision(v3_graph("prefill"), stored_as("fp8"), "bf16", HOPPER)
    assert moe_layer(graph)["self_attn.kv_b_proj"].compute_dtype == "fp8_block"


def test_one_quantize_serves_all_consumers_of_a_tensor() -> None:
    layer = moe_layer(apply_precision(v3_graph("decode"), stored_as("fp8"), "bf16", HOPPER))
    quantised = [name for name, op in layer.items() if op.kind == "quantize"]
    assert quantised == [
        "self_attn.q_kv_a_proj.quantize",
        "self_attn.q_b_proj.quantize",
        "self_attn.o_proj.quantize",
        "mlp.routed.experts.quantize",  # the shared expert reads the same tokens
        "mlp.shared_experts.down_proj.quantize",
    ]
    shared = list(layer).index("mlp.routed.experts.quantize")
    assert layer["mlp.shared_experts.gate_up_proj"].deps == (shared,)
    assert shared in layer["mlp.routed.experts"].deps


def test_a_quantised_input_costs_a_byte_an_element_and_its_scales() -> None:
    layer = moe_layer(apply_precision(v3_graph("decode"), stored_as("fp8"), "bf16", HOPPER))
    quantize = layer["self_attn.q_kv_a_proj.quantize"]
    assert str(quantize.activation_read_bytes) == "14336*B"  # 7168 elements of 2 bytes
    assert str(quantize.activation_write_bytes) == "7392*B"  # 7168 + 56 scales of 4 bytes
    assert layer["self_attn.q_kv_a_proj"].activation_read_bytes == quantize.activation_write_bytes


def test_rows_are_quantised_before_they_are_dispatched_and_return_in_bf16() -> None:
    local = apply_layout(v3_graph("decode"), ALL_TO_ALL)
    layer = moe_layer(apply_precision(local, stored_as("fp8"), "bf16", HOPPER))
    sent, returned = layer["mlp.routed.experts.dispatch"], layer["mlp.routed.experts.combine"]
    assert sent.collective is not None
    assert returned.collective is not None
    assert str(sent.collective.message_bytes) == "59136*B"  # 8 rows of 7392
    assert str(returned.collective.message_bytes) == "14336*R"
    assert "mlp.routed.experts.experts.quantize" not in layer
    assert layer["mlp.routed.experts.experts"].inputs[0].dtype == "fp8_block"


def test_fp4_stores_mlps_and_experts_and_leaves_attention() -> None:
    graph = apply_precision(v3_graph("decode"), stored_as("fp4"), "fp8", COMPUTE_DTYPES)
    before, after = moe_layer(v3_graph("decode")), moe_layer(graph)
    assert after["mlp.routed.experts"].weight_bytes * 32 == before["mlp.routed.experts"].weight_bytes * 9
    assert after["mlp.routed.experts"].compute_dtype == "nvfp4"
    assert after["self_attn.o_proj"].weight_bytes == before["self_attn.o_proj"].weight_bytes
    mtp = apply_precision(v3_graph("mtp"), stored_as("fp4"), "bf16", COMPUTE_DTYPES)
    assert mtp == v3_graph("mtp")


def test_a_device_without_the_unit_stores_in_it_and_computes_in_bf16_and_says_so() -> None:
    graph = apply_precision(v3_graph("decode"), stored_as("fp8"), "bf16", {"bf16"})
    native = apply_precision(v3_graph("decode"), stored_as("fp8"), "bf16", HOPPER)
    assert weight_bytes_per_rank(graph) == weight_bytes_per_rank(native)
    assert {op.compute_dtype for _, _, op in graph.instances()} == {"bf16"}
    assert all(op.kind != "quantize" for _, _, op in graph.instances())
    assert graph.notes == (
        "weights are stored in fp8_block and computed in bf16: the device has no fp8_block unit",
    )
    assert native.notes == ()


def test_a_layout_that_cuts_blocks_is_noted() -> None:
    local = apply_layout(v3_graph("decode"), Layout.of(V3.blueprint, gpus=32, tp=32))
    (note,) = apply_precision(local, stored_as("fp8"), "bf16", HOPPER).notes
    assert note == (
        "engines refuse to cut the 128-wide blocks of fp8_block: a rank has 64 and 576 input features"
    )
    assert apply_precision(local, stored_as("fp4"), "bf16", COMPUTE_DTYPES).notes == ()


@pytest.mark.parametrize("phase", PHASES)
def test_an_fp8_cache_halves_its_bytes(phase: str) -> None:
    before = graph_work(v3_graph(phase))
    after = graph_work(apply_precision(v3_graph(phase), stored_as("bf16"), "fp8", HOPPER))
    assert after.cache_read_bytes * 2 == before.cache_read_bytes
    assert after.cache_write_bytes * 2 == before.cache_write_bytes
    assert after.weight_bytes == before.weight_bytes


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("scheme", ["fp8", "fp4"])
@pytest.mark.parametrize("layout", [Layout(), Layout.of(V3.blueprint, gpus=8, tp=8), ALL_TO_ALL])
def test_precision_never_changes_the_arithmetic(phase: str, scheme: str, layout: Layout) -> None:
    local = apply_layout(v3_graph(phase), layout)
    before, after = (
        graph_work(local),
        graph_work(apply_precision(local, stored_as(scheme), "bf16", COMPUTE_DTYPES)),
    )
    assert (after.flop, after.causal_flop) == (before.flop, before.causal_flop)


@pytest.mark.parametrize(
    ("scheme", "kv_dtype", "compute", "word"),
    [
        (
            "fp9",
            "bf16",
            HOPPER,
            "deployment.precision  must be one of bf16, fp8, fp4, .*; given 'fp9'; did you mean fp8",
        ),
        ("fp8", "auto", HOPPER, "deployment.kv_dtype  must be one of bf16, fp8"),
        ("fp8", "bf16", {"fp8_block"}, "must have a matrix unit for bf16; given fp8_block"),
    ],
)
def test_what_cannot_be_stored_or_computed_is_refused(
    scheme: str, kv_dtype: str, compute: frozenset[str], word: str
) -> None:
    with pytest.raises(InputError, match=word):
        apply_precision(v3_graph("decode"), stored_as(scheme), kv_dtype, compute)
