"""Index keys are cached and scored in fp8 where the device can, whatever the rest of the cache is in."""

import pytest

from model_graphs.configs import resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.expressions import Expression
from model_graphs.graph import Operator, OperatorGraph
from model_graphs.graph_io import load_graph
from model_graphs.layout import Layout, apply_layout
from model_graphs.precision import apply_precision
from model_graphs.totals import CacheGroup, cache_groups, graph_summary

AMPERE = frozenset({"bf16"})
V32 = resolve_model("deepseek-v3.2")


def stored(kv_dtype: str, supported: frozenset[str] = frozenset(COMPUTE_DTYPES)) -> OperatorGraph:
    return apply_precision(load_graph(V32, "decode"), V32.storage("fp8"), kv_dtype, supported)


def indexer(graph: OperatorGraph) -> dict[str, Operator]:
    layer = next(block for block in graph.blocks if block.name == "moe_layer")
    return {
        op.name.removeprefix("self_attn.indexer."): op
        for op in layer.operators
        if op.name.startswith("self_attn.indexer.")
    }


@pytest.mark.parametrize(("kv_dtype", "latent"), [("bf16", 61 * 1152), ("fp8", 61 * 576)])
def test_a_token_caches_its_latent_and_132_bytes_of_index_keys_a_layer(kv_dtype: str, latent: int) -> None:
    # 128 elements in fp8 and one fp32 scale
    groups = cache_groups(stored(kv_dtype))
    assert groups == (CacheGroup("latent", 61, latent), CacheGroup("index keys", 61, 61 * 132))


def test_a_device_without_fp8_keeps_index_keys_in_16_bits() -> None:
    assert cache_groups(stored("bf16", AMPERE))[1] == CacheGroup("index keys", 61, 61 * 256)
    assert indexer(stored("bf16", AMPERE))["scores"].compute_dtype == "bf16"


def test_queries_are_quantised_once_and_scores_computed_in_fp8() -> None:
    scored = indexer(stored("bf16"))
    assert scored["scores"].compute_dtype == "fp8"
    assert scored["scores"].cache_read_bytes == Expression.parse("132*B*(T + 1)")
    assert scored["scores"].flop == indexer(load_graph(V32, "decode"))["scores"].flop
    # 64 heads of 128 read in 16 bits, written in fp8 with a scale each
    assert scored["scores.quantize"].activation_read_bytes == Expression.parse("16384*B")
    assert scored["scores.quantize"].activation_write_bytes == Expression.parse("8448*B")


def test_the_quantised_queries_wait_for_their_rotation_and_the_scores_for_them() -> None:
    layer = next(block for block in stored("bf16").blocks if block.name == "moe_layer")
    place = {op.name: index for index, op in enumerate(layer.operators)}
    quantized = layer.operators[place["self_attn.indexer.scores.quantize"]]
    assert quantized.deps == (place["self_attn.indexer.rope"],)
    waits = layer.operators[place["self_attn.indexer.scores"]].deps
    before = ("kv_append", "weights_proj", "scores.quantize")
    assert set(waits) == {place[f"self_attn.indexer.{name}"] for name in before}


def test_products_of_the_indexer_are_stored_in_fp8_but_for_the_weights_of_heads() -> None:
    scored = indexer(stored("bf16"))
    assert {scored[name].compute_dtype for name in ("wq_b", "wk")} == {"fp8_block"}
    assert scored["weights_proj"].inputs[1].dtype == "bf16"


def test_every_rank_indexes_with_all_heads_and_attends_with_its_own() -> None:
    whole = load_graph(V32, "decode")
    rank = apply_layout(whole, Layout.of(V32.blueprint, gpus=8, tp=8))
    assert indexer(rank) == indexer(whole)
    at = {"B": 3, "T": 5000}
    sparse, part = (
        next(op for op in graph.blocks[2].operators if op.kind == "sparse_mla_attention")
        for graph in (whole, rank)
    )
    assert part.flop.exact(at) * 8 == sparse.flop.exact(at)
    assert part.cache_read_bytes == sparse.cache_read_bytes  # a latent has no heads


def test_a_model_without_an_indexer_is_left_alone() -> None:
    graph = load_graph("deepseek-v3", "decode")
    assert apply_precision(graph, None, "bf16", COMPUTE_DTYPES) == graph


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8"])
def test_a_summary_shows_index_keys_as_engines_cache_them(kv_dtype: str) -> None:
    assert graph_summary("glm-5", "decode", kv_dtype).caches[1] == CacheGroup("index keys", 78, 78 * 132)
