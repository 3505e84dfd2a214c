from functools import cache

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.expressions import Expression
from model_graphs.graph import OperatorGraph
from model_graphs.graph_io import load_graph
from model_graphs.layout import Dispatch, Layout, apply_layout
from model_graphs.precision import apply_precision
from model_graphs.totals import (
    cache_groups,
    graph_summary,
    graph_work,
    parameter_counts,
    weight_bytes_by_component,
    weight_bytes_per_rank,
)

RECORD = resolve_model("deepseek-v3")
V3 = RECORD.config
MAIN_PHASES = ("prefill", "chunked_prefill", "decode")


@cache
def v3_graph(phase: str) -> OperatorGraph:
    return load_graph("deepseek-v3", phase)


def test_v3_has_its_published_parameters() -> None:
    counts = parameter_counts(RECORD)
    assert counts.total == 671_026_404_352
    assert counts.active == 37_552_282_624
    assert counts.active_without_embedding == 36_625_603_584
    assert counts.mtp == 11_610_067_968


@pytest.mark.parametrize("phase", MAIN_PHASES)
@pytest.mark.parametrize("model", ["deepseek-v3", "article-v3"])
def test_the_graph_stores_exactly_the_parameters(model: str, phase: str) -> None:
    record = resolve_model(model)
    correction_bias = 58 * 256 * 4  # fp32, a buffer
    stored = weight_bytes_by_component(load_graph(model, phase))
    assert sum(stored.values()) == 2 * parameter_counts(record).total + correction_bias
    expected = {name: 2 * count for name, count in parameter_counts(record).by_component.items()}
    assert stored == expected | {"router": expected["router"] + correction_bias}


def test_the_mtp_graph_stores_its_module_and_the_shared_embedding_and_head() -> None:
    shared = 2 * V3.vocab_size * V3.hidden_size
    correction_bias = V3.n_routed_experts * 4
    assert (
        weight_bytes_per_rank(v3_graph("mtp"))
        == 2 * (parameter_counts(RECORD).mtp + shared) + correction_bias
    )


@pytest.mark.parametrize(
    ("phase", "closed_form"),
    [
        ("prefill", "16384*B*S*(305*S + 4470776)"),
        ("chunked_prefill", "16384*B*S*(1037*S + 1037*T + 4470776)"),
        ("decode", "16384*B*(1037*T + 4471813)"),
    ],
)
def test_flop_have_their_closed_forms(phase: str, closed_form: str) -> None:
    assert str(graph_work(v3_graph(phase)).flop) == closed_form


def test_flop_at_the_published_points() -> None:
    prefill, decode = graph_work(v3_graph("prefill")).flop, graph_work(v3_graph("decode")).flop
    assert prefill.exact({"B": 1, "S": 4096}) == 383_866_460_176_384
    assert decode.exact({"B": 64, "T": 4095}) == 9_141_829_500_928


def test_a_chunk_that_is_the_whole_prompt_needs_the_same_linears() -> None:
    """Absorbed attention costs 1037 where naive attention costs 305; everything else is equal."""
    chunk = graph_work(v3_graph("chunked_prefill")).flop.substitute({"T": 0})
    difference = chunk - graph_work(v3_graph("prefill")).flop
    assert difference == Expression.parse("16384*B*S*(1037*S - 305*S)")


def test_a_step_of_one_token_is_a_chunk_of_one_token() -> None:
    chunk, step = graph_work(v3_graph("chunked_prefill")), graph_work(v3_graph("decode"))
    assert step.flop == chunk.flop.substitute({"S": 1})
    assert step.cache_read_bytes == chunk.cache_read_bytes.substitute({"S": 1})


def test_causal_attention_does_about_half_of_dense_attention() -> None:
    work = graph_work(v3_graph("prefill"))
    point = {"B": 1, "S": 4096}
    saved = work.flop.exact(point) - work.causal_flop.exact(point)
    assert saved == 4_997_120 * (4096 * 4096 - 4096 * 4097 // 2)


def test_v3_caches_one_latent_a_token_and_layer() -> None:
    (group,) = cache_groups(v3_graph("prefill"))
    assert (group.layers, group.bytes_per_token, group.window, group.bytes_per_sequence) == (
        61,
        70_272,
        None,
        0,
    )
    assert cache_groups(v3_graph("mtp"))[0].bytes_per_token == 576 * 2


def test_an_fp8_cache_is_half_as_big() -> None:
    (group,) = cache_groups(apply_precision(v3_graph("decode"), None, "fp8", {"bf16"}))
    assert group.bytes_per_token == 35_136


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8"])
def test_the_graph_writes_and_reads_what_the_cache_groups_say(kv_dtype: str) -> None:
    graph = apply_precision(v3_graph("chunked_prefill"), RECORD.storage("bf16"), kv_dtype, {"bf16"})
    per_token = sum(group.bytes_per_token for group in cache_groups(graph))
    assert graph_work(graph).cache_write_bytes == Expression.parse(f"{per_token}*B*S")
    assert graph_work(graph).cache_read_bytes == Expression.parse(f"{per_token}*B*(S + T)")


#: bytes of weights that a rank stores while attention is absorbed; checked against `fp8_weights_by_hand`
GOLDEN_WEIGHTS = {
    ("bf16", "tp1"): 1_342_052_868_096,
    ("fp8", "tp1"): 674_173_772_128,
    ("fp8", "tp8"): 85_268_025_888,
    ("fp8", "dp8_ep8"): 101_863_907_680,
    ("fp8", "dp64_ep64"): 30_325_174_624,
    ("fp4", "tp8"): 51_388_866_560,
}
LAYOUTS = {
    "tp1": Layout(),
    "tp8": Layout.of(V3.blueprint, gpus=8, tp=8),
    "dp8_ep8": Layout.of(V3.blueprint, gpus=8, dp=8, ep=8),
    "dp64_ep64": Layout.of(V3.blueprint, gpus=64, dp=64, ep=64, dispatch=Dispatch.ALL_TO_ALL),
}


@pytest.mark.parametrize(("scheme", "layout"), GOLDEN_WEIGHTS)
def test_weights_of_a_rank(scheme: str, layout: str) -> None:
    local = apply_layout(v3_graph("decode"), LAYOUTS[layout])
    graph = apply_precision(local, RECORD.storage(scheme), "bf16", {"bf16"})
    assert weight_bytes_per_rank(graph) == GOLDEN_WEIGHTS[scheme, layout]


def fp8_weights_by_hand(tp: int, ep: int, moe_tp: int) -> int:
    """The arithmetic of the fp8 checkpoint on one rank, layer by layer."""

    def stored(n: int, k: int) -> int:
        return n * k + -(-n // 128) * -(-k // 128) * 4

    width = 7168
    projections = stored(2112, width) + stored(24576 // tp, 1536) + stored(width, 16384 // tp)
    attention = projections + 2 * 32768 * 512 // tp + 2 * (1536 + 512)  # kv_b and the latents' norms in bf16
    dense = stored(36864 // tp, width) + stored(width, 18432 // tp)
    shared = stored(4096 // tp, width) + stored(width, 2048 // tp)
    routed = 256 // ep * (stored(4096 // moe_tp, width) + stored(width, 2048 // moe_tp))
    router = 256 * width * 2 + 256 * 4
    vocabulary = 2 * 2 * 129280 * width // tp
    norms = 2 * width * (2 * 61 + 1)
    return vocabulary + norms + 61 * attention + 3 * dense + 58 * (shared + routed + router)


@pytest.mark.parametrize("layout", ["tp1", "tp8", "dp8_ep8", "dp64_ep64"])
def test_fp8_weights_are_what_the_arithmetic_by_hand_gives(layout: str) -> None:
    widths = LAYOUTS[layout]
    assert GOLDEN_WEIGHTS["fp8", layout] == fp8_weights_by_hand(widths.tp, widths.ep, widths.moe_tp)


def test_fp8_weights_are_about_a_byte_a_parameter() -> None:
    graph = apply_precision(v3_graph("prefill"), RECORD.storage("fp8"), "bf16", {"bf16"})
    counts = parameter_counts(RECORD)
    wide = sum(counts.by_component[name] for name in ("embedding", "head", "norm", "router"))
    # a byte and 4 / 16384 of scale; the 2112 rows of q_a and kv_a leave one block half empty
    least = (counts.total - wide) * (1 + 4 / 16384) + 2 * wide
    assert least <= weight_bytes_per_rank(graph) <= least * (1 + 1e-6)


def test_the_summary_answers_for_r1_with_v3s_graph() -> None:
    summary = graph_summary("deepseek-ai/DeepSeek-R1", "decode", at={"B": 64})
    assert summary.record.key == "deepseek-r1"
    assert summary.at == {"B": 64, "S": 1, "T": 4095}
    assert summary.total.at(summary.at)["flop"] == 9_141_829_500_928


def test_the_summary_is_plain_data_with_closed_forms() -> None:
    data = graph_summary("deepseek-v3").as_dict()
    total = data["total"]
    assert isinstance(total, dict)
    assert total["closed_forms"]["flop"] == "16384*B*S*(305*S + 4470776)"
    assert total["at_point"]["flop"] == 383_866_460_176_384
    assert total["closed_forms"]["cache_write_bytes"] == "70272*B*S"


def test_the_articles_figures_are_assumed_where_it_is_silent() -> None:
    data = graph_summary("article-v3").as_dict()
    assumed = data["assumed_fields"]
    assert isinstance(assumed, list)
    assert "num_hidden_layers" in assumed
    assert "n_routed_experts" in assumed


def test_a_point_outside_the_graph_is_refused() -> None:
    with pytest.raises(InputError, match=r"at  symbol must be B, S or T; given X"):
        graph_summary("deepseek-v3", at={"X": 1})
    with pytest.raises(InputError, match=r"at\.B  must not be negative; given -1"):
        graph_summary("deepseek-v3", at={"B": -1})
    with pytest.raises(InputError, match="did you mean fp8"):
        graph_summary("deepseek-v3", kv_dtype="fp9")
