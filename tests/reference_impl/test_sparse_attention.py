"""Sparse latent attention: choices made at run time, two caches, its work, and mistakes that must show."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from families import PIECES, Pair, make_pair, whole
from tiny import distance, positions_of, relative

from model_graphs.blueprint import Blueprint, IndexerSpec
from model_graphs.configs import resolve_model
from model_graphs.expressions import Expression
from model_graphs.graph import Operator, Role
from model_graphs.graph_io import load_graph
from reference_impl import kernels
from reference_impl.kernels import KERNELS, Call, Operand
from reference_impl.kernels.attention import pairs
from reference_impl.layers import LayerNorm
from reference_impl.parts.sparse_attention import Indexer

SPARSE = ("deepseek v3.2", "glm 5")
RIGHT = 1e-5


@cache
def pair(name: str) -> Pair:
    return make_pair(name)


def with_indexer(blueprint: Blueprint, **changes: object) -> Blueprint:
    """The blueprint with changed indexers."""
    layers = tuple(
        replace(layer, mixer=replace(layer.mixer, indexer=replace(layer.mixer.indexer, **changes)))
        for layer in blueprint.layers
    )
    return replace(blueprint, layers=layers)


def error_of(name: str, **changes: object) -> float:
    own = pair(name)
    return relative(whole(own.ours(with_indexer(own.family.blueprint, **changes)), own.ids), own.logits)


@pytest.mark.parametrize("name", SPARSE)
@torch.no_grad()
def test_both_caches_equal_those_of_transformers(name):
    own = pair(name)
    model, theirs, mine, start = own.ours(), None, None, 0
    for piece in own.ids.split(PIECES, 1):
        theirs = own.independent(piece, past_key_values=theirs, use_cache=True).past_key_values
        _, _, mine = model(piece, positions_of(piece, start), mine, start > 0)
        start += piece.shape[1]
    for (latent, keys), layer in zip(mine, theirs.layers, strict=True):
        published = torch.cat([layer.keys[:, 0], layer.values[:, 0]], -1)
        assert distance(latent, published) < RIGHT
        keys = evens_first(keys, 8) if own.family.architecture == "GlmMoeDsaForCausalLM" else keys
        assert distance(keys, layer.indexer_keys) < RIGHT


def evens_first(keys: torch.Tensor, width: int) -> torch.Tensor:
    """The rotated features as `transformers` orders rotated pairs of neighbours; scores do not see it."""
    return torch.cat([keys[..., 0:width:2], keys[..., 1:width:2], keys[..., width:]], -1)


@pytest.mark.parametrize("name", SPARSE)
def test_a_choice_of_everything_is_dense_attention_and_a_smaller_one_is_not(name):
    own = pair(name)
    dense = whole(own.ours(own.family.blueprint.dense), own.ids)
    everything = with_indexer(own.family.blueprint, topk=own.ids.shape[1])
    assert distance(whole(own.ours(everything), own.ids), dense) < RIGHT
    assert relative(own.logits, dense) > 0.1


@pytest.mark.parametrize("name", SPARSE)
def test_tokens_before_the_choice_is_smaller_than_the_cache_are_dense(name):
    own = pair(name)
    topk = own.family.blueprint.layers[0].mixer.indexer.topk
    dense = whole(own.ours(own.family.blueprint.dense), own.ids)
    assert distance(own.logits[:, :topk], dense[:, :topk]) < RIGHT
    assert distance(own.logits[:, topk], dense[:, topk]) > 1e-3


def test_a_choice_of_one_token_more_or_fewer_breaks_parity():
    assert error_of("deepseek v3.2", topk=9) > 1e-2
    assert error_of("deepseek v3.2", topk=7) > 1e-2


def test_rotating_the_indexers_heads_in_the_other_pairing_breaks_parity():
    assert error_of("deepseek v3.2", neighbours=True) > 1e-2
    assert error_of("glm 5", neighbours=False) > 1e-2


def test_a_sum_over_heads_of_negative_products_too_breaks_parity(monkeypatch):
    own = pair("deepseek v3.2")
    monkeypatch.setattr(torch.Tensor, "relu", lambda x: x)
    assert relative(whole(own.ours(), own.ids), own.logits) > 1e-2


def test_leaving_out_the_weights_of_heads_breaks_parity(monkeypatch):
    own = pair("deepseek v3.2")
    right = kernels.index_weights
    monkeypatch.setattr(kernels, "index_weights", lambda x, w: torch.ones_like(right(x, w)))
    assert relative(whole(own.ours(), own.ids), own.logits) > 1e-2


def test_keys_that_are_not_normalised_break_parity(monkeypatch):
    own = pair("deepseek v3.2")
    monkeypatch.setattr(LayerNorm, "forward", lambda self, x: x)
    assert relative(whole(own.ours(), own.ids), own.logits) > 1e-2


def test_an_rms_norm_of_the_keys_breaks_parity(monkeypatch):
    own = pair("deepseek v3.2")
    mistaken = lambda self, x: F.rms_norm(x, x.shape[-1:], self.weight, self.eps) + self.bias  # noqa: E731
    monkeypatch.setattr(LayerNorm, "forward", mistaken)
    assert relative(whole(own.ours(), own.ids), own.logits) > 1e-2


def test_an_indexer_that_reads_the_hidden_state_where_the_queries_latent_is_due_does_not_even_run():
    indexer = Indexer(IndexerSpec(heads=4, width=8, topk=2, neighbours=False), 32, 16)
    x, rotary = torch.randn(1, 3, 32), (torch.ones(1, 3, 2), torch.zeros(1, 3, 2))
    with pytest.raises(RuntimeError, match="shape"):
        indexer(x, x, rotary, None)


def test_no_query_chooses_a_later_token_and_short_caches_leave_places_empty():
    scores = kernels.index_scores(torch.randn(1, 3, 4, 6), torch.rand(1, 3, 4), torch.randn(1, 5, 6))
    places = kernels.topk(scores, 8)
    assert places.shape == (1, 3, 8)
    for query, seen in enumerate((3, 4, 5)):
        chosen = places[0, query].tolist()
        assert sorted(chosen[:seen]) == list(range(seen))
        assert chosen[seen:] == [-1] * (8 - seen)


def test_attention_to_chosen_tokens_is_attention_to_a_cache_of_them_alone():
    q, rotated, cache = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 4, 2), torch.randn(1, 9, 10)
    places = torch.tensor([[[7, 2, 8, -1]]], dtype=torch.int32)
    chosen = kernels.sparse_mla_attention(q, rotated, cache, places, 0.3)
    assert distance(chosen, kernels.mla_attention(q, rotated, cache[:, [2, 7, 8]], 0.3)) < 1e-6


def activation(*shape: int) -> Operand:
    return Operand(shape, "bf16", 2, Role.ACTIVATION)


def test_work_of_a_choice_by_hand():
    # 3 new tokens on 4 past, 2 chosen: 6 of 3 x 7 pairs, each 2 sequences x 4 heads x 2 x (8 + 8 + 2)
    call = Call(
        {
            "q_BSHL": activation(2, 3, 4, 8),
            "q_BSHP": activation(2, 3, 4, 2),
            "cache_BTM": Operand((2, 7, 10), "bf16", 2, Role.CACHE),
            "places_BSK": Operand((2, 3, 2), "int32", 4, Role.INDEX),
        },
        (activation(2, 3, 4, 8),),
        {},
    )
    work = KERNELS["sparse_mla_attention"].work(call)
    assert (work.flop, work.causal_flop) == (6 * 288, 6 * 288)
    assert work.cache_read_bytes == 2 * 6 * 10 * 2  # at most 3 x 2 rows a sequence


def test_work_of_scoring_by_hand():
    # 3 new on 4 past: 5 + 6 + 7 of 21 pairs; 2 sequences x 4 heads x 2 x (6 + 1)
    call = Call(
        {
            "q_BSIX": activation(2, 3, 4, 6),
            "weights_BSI": activation(2, 3, 4),
            "keys_BTX": Operand((2, 7, 6), "bf16", 2, Role.CACHE),
        },
        (Operand((2, 3, 7), "fp32", 4, Role.ACTIVATION),),
        {},
    )
    work = KERNELS["index_scores"].work(call)
    assert (work.flop, work.causal_flop) == (21 * 112, 18 * 112)
    assert (work.cache_read_bytes, work.activation_write_bytes) == (2 * 7 * 6 * 2, 2 * 3 * 7 * 4)


@pytest.mark.parametrize(("n_new", "n_past", "topk"), [(10, 0, 4), (10, 3, 4), (1, 20, 8), (5, 6, 8)])
def test_a_choice_keeps_exactly_the_pairs_that_the_flop_count(n_new, n_past, topk):
    n_total = n_new + n_past
    scores = kernels.index_scores(
        torch.randn(1, n_new, 4, 6), torch.rand(1, n_new, 4), torch.randn(1, n_total, 6)
    )
    assert pairs(n_new, n_total, topk) == int((kernels.topk(scores, topk) >= 0).sum())


def operator(phase: str, name: str) -> Operator:
    layer = next(b for b in load_graph("deepseek-v3.2", phase).blocks if b.name == "moe_layer")
    return next(op for op in layer.operators if op.name == name)


def test_closed_forms_of_v32():
    # a pair is scored by 64 heads of 128 and their sum, attended by 128 heads over 512 + 64 and 512
    scored, attended = 2 * 64 * (128 + 1), 2 * 128 * (2 * 512 + 64)
    scores, sparse = (operator("decode", f"self_attn.{n}") for n in ("indexer.scores", "sparse_attention"))
    assert scores.flop == Expression.parse(f"{scored}*B*(T + 1)")
    assert sparse.flop == Expression.parse(f"{attended}*B*min(T + 1, 2048)")
    assert sparse.cache_read_bytes == Expression.parse("1152*B*min(T + 1, 2048)")


def test_the_dense_option_is_deepseek_v3():
    sparse, v3 = resolve_model("deepseek-v3.2").blueprint, resolve_model("deepseek-v3").blueprint
    assert sparse.dense == v3
    assert v3.dense == v3
