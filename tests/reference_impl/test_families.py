"""Every family against the independent implementation: numbers, FLOP, layouts, repetition."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from families import FAMILIES, Pair, in_pieces, make_pair, whole
from tiny import distance, relative
from torch.utils.flop_counter import FlopCounterMode

from model_graphs.blueprint import (
    AttentionSpec,
    Blueprint,
    LatentAttentionSpec,
    LayerSpec,
    MixtureSpec,
    QueryKeyNorm,
    Scoring,
)
from model_graphs.graph_io import phases_of
from model_graphs.layout import Layout, apply_layout
from model_graphs.totals import graph_work
from reference_impl.emission import emit, emit_layers
from reference_impl.kernels import experts
from reference_impl.kernels.attention import causal, pairs

TOLERANCE = 1e-5
EXPORTED = [
    pytest.param(name, marks=pytest.mark.slow) if family.variant else name
    for name, family in FAMILIES.items()
]


@cache
def pair(name: str) -> Pair:
    return make_pair(name)


@pytest.mark.parametrize("name", FAMILIES)
def test_prefill_equals_the_independent_implementation(name):
    assert distance(whole(pair(name).ours(), pair(name).ids), pair(name).logits) < TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_chunks_and_decoded_tokens_equal_the_whole(name):
    assert distance(in_pieces(pair(name).ours(), pair(name).ids), pair(name).logits) < TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_flop_equal_the_frameworks_counter_on_the_independent_implementation(name):
    """Equal to the last FLOP, but for the tables of sines, which the other one makes by a product.

    Sparse attention it computes densely, on expanded keys.
    """
    family, n_tokens = FAMILIES[name], 64
    with torch.device("meta"):
        model = family.independent()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("batched_mm")
    ids = torch.zeros(1, n_tokens, dtype=torch.int64, device="meta")
    mask = torch.zeros(1, 1, n_tokens, n_tokens, device="meta")
    kinds = {"full_attention": mask, "sliding_attention": mask}
    given = kinds if hasattr(model.config, "layer_types") and "gpt" in name else mask
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(ids, attention_mask=given, position_ids=ids, use_cache=False)
    tables = sum(rope.width * n_tokens for rope in family.blueprint.ropes)
    ours = graph_work(emit(family.blueprint, "prefill")).flop.exact({"B": 1, "S": n_tokens})
    dense = sum(_flop_of_dense_attention(layer, n_tokens) for layer in family.blueprint.layers)
    assert counter.get_total_flops() - ours - dense in (0, tables)


def _flop_of_dense_attention(layer: LayerSpec, n_tokens: int) -> int:
    """What scores and values take more for all pairs in expanded form than for chosen ones in latent form."""
    spec = layer.mixer
    if not isinstance(spec, LatentAttentionSpec) or spec.indexer is None:
        return 0
    expanded = n_tokens * (spec.content + spec.position + spec.value)
    latent = min(n_tokens, spec.indexer.topk) * (2 * spec.kv_rank + spec.position)
    return 2 * n_tokens * spec.heads * (expanded - latent)


@pytest.mark.parametrize("name", EXPORTED)
def test_layers_of_a_kind_are_alike(name):
    blueprint = FAMILIES[name].blueprint
    for phase in phases_of(blueprint):
        blocks = emit_layers(blueprint, phase)
        unrolled = {b.name: b.operators for b in blocks}
        assert all(unrolled[b.name] == b.operators for b in blocks)
        folded = emit(blueprint, phase).blocks
        assert {b.name: b.operators for b in folded} == unrolled
        assert sum(b.repeat for b in folded if b.name not in ("embedding", "head", "mtp_layer")) == (
            0 if phase == "mtp" else len(blueprint.layers)
        )


def _layouts(blueprint: Blueprint) -> list[Layout]:
    layouts = [Layout.of(blueprint, gpus=tp, tp=tp) for tp in (2, 4, 8)]
    if blueprint.n_experts:
        layouts += [
            Layout.of(blueprint, gpus=4, tp=4, ep=4),
            Layout.of(blueprint, gpus=8, tp=2, dp=4, ep=8),
        ]
    return layouts


@pytest.mark.parametrize("name", EXPORTED)
def test_the_layout_pass_gives_what_a_rank_exports(name):
    """At eight ranks the two heads of keys and values have four copies each."""
    blueprint = FAMILIES[name].blueprint
    whole_graphs = {phase: emit(blueprint, phase) for phase in ("prefill", "decode")}
    for layout in _layouts(blueprint):
        for phase, graph in whole_graphs.items():
            exported, passed = emit(blueprint, phase, layout), apply_layout(graph, layout)
            for block, other in zip(exported.blocks, passed.blocks, strict=True):
                for operator, rewritten in zip(block.operators, other.operators, strict=True):
                    assert rewritten == operator
            assert passed == exported


def _mistaken(name: str, **changes: object) -> float:
    """Relative error of a model whose attention specs are changed."""
    own = pair(name)
    layers = tuple(
        replace(layer, mixer=replace(layer.mixer, **changes)) if _applies(layer, changes) else layer
        for layer in own.family.blueprint.layers
    )
    mistaken = own.ours(replace(own.family.blueprint, layers=layers))
    return relative(whole(mistaken, own.ids), own.logits)


def _applies(layer: LayerSpec, changes: dict[str, object]) -> bool:
    return isinstance(layer.mixer, AttentionSpec) and (
        "window" not in changes or layer.mixer.window is not None
    )


def _mistaken_mixture(name: str, **changes: object) -> float:
    own = pair(name)
    layers = tuple(
        replace(layer, feed_forward=replace(layer.feed_forward, **changes))
        if isinstance(layer.feed_forward, MixtureSpec)
        else layer
        for layer in own.family.blueprint.layers
    )
    mistaken = own.ours(replace(own.family.blueprint, layers=layers))
    return relative(whole(mistaken, own.ids), own.logits)


def test_a_window_that_is_one_token_off_breaks_parity():
    assert _mistaken("gpt-oss", window=9) > 1e-3
    assert _mistaken("gpt-oss", window=7) > 1e-3


def test_a_wrong_theta_or_no_stretching_breaks_parity():
    for name in ("llama 3.1", "gpt-oss"):
        rope = pair(name).family.blueprint.ropes[0]
        assert _mistaken(name, rope=replace(rope, theta=1e4)) > 1e-2
        assert _mistaken(name, rope=replace(rope, scaling=None)) > 1e-2


def test_rotating_neighbours_instead_of_halves_breaks_parity():
    (rope,) = pair("qwen 3").family.blueprint.ropes
    assert _mistaken("qwen 3", rope=replace(rope, neighbours=True)) > 1e-2


def test_rotating_whole_heads_where_half_is_rotated_breaks_parity():
    (rope,) = pair("minimax m2").family.blueprint.ropes
    assert _mistaken("minimax m2", rope=replace(rope, width=24)) > 1e-2
    (rope,) = pair("glm 4.5").family.blueprint.ropes
    assert _mistaken("glm 4.5", rope=replace(rope, width=24)) > 1e-2


def test_leaving_out_the_norm_of_queries_and_keys_breaks_parity():
    for name in ("qwen 3", "minimax m2", "glm 4.5"):
        assert _mistaken(name, norm=QueryKeyNorm.NONE) > 1e-2


def test_leaving_out_the_sinks_breaks_parity(monkeypatch):
    own = pair("gpt-oss")
    mistaken = own.ours()
    for layer in mistaken.layers:
        layer.self_attn.core.sinks = None
    assert relative(whole(mistaken, own.ids), own.logits) > 1e-2


def test_weights_that_are_not_normalised_or_of_other_scores_break_parity():
    assert _mistaken_mixture("qwen 3 with experts", normalise=False) > 1e-2
    assert _mistaken_mixture("qwen 3 with experts", scoring=Scoring.SIGMOID) > 1e-2
    assert _mistaken_mixture("minimax m2", scoring=Scoring.SOFTMAX) > 1e-2
    assert _mistaken_mixture("glm 4.5", normalise=False) > 1e-2
    assert _mistaken_mixture("deepseek v2", normalise=True) > 1e-2
    assert _mistaken_mixture("deepseek v2 lite", scoring=Scoring.SIGMOID) > 1e-2


def test_a_group_scored_by_its_best_two_experts_or_none_at_all_breaks_parity():
    assert _mistaken_mixture("deepseek v2", scored_of_group=2) > 1e-2
    assert _mistaken_mixture("deepseek v2", groups=1, topk_groups=1) > 1e-2


def test_ignoring_the_balancing_bias_or_the_scale_of_experts_breaks_parity():
    for name in ("glm 4.5", "kimi k2", "glm 5"):
        own = pair(name)
        mistaken = own.ours()
        for buffer, bias in mistaken.named_buffers():
            if buffer.endswith("e_score_correction_bias"):
                bias.zero_()
        assert relative(whole(mistaken, own.ids), own.logits) > 1e-2
        assert _mistaken_mixture(name, scale=1.0) > 1e-2


def test_leaving_out_the_biases_of_queries_keys_and_values_breaks_parity():
    own = pair("glm 4.5")
    mistaken = own.ours()
    for layer in mistaken.layers:
        layer.self_attn.qkv_proj.bias = None
    assert relative(whole(mistaken, own.ids), own.logits) > 1e-2


def test_a_ramp_of_yarn_that_is_wide_where_it_is_a_step_breaks_parity():
    (rope,) = pair("kimi k2").family.blueprint.ropes
    wide = replace(rope, scaling=replace(rope.scaling, beta_fast=32.0))
    own = pair("kimi k2")
    layers = tuple(replace(x, mixer=replace(x.mixer, rope=wide)) for x in own.family.blueprint.layers)
    mistaken = own.ours(replace(own.family.blueprint, layers=layers))
    assert relative(whole(mistaken, own.ids), own.logits) > 1e-3


def test_an_activation_that_is_not_clamped_breaks_parity(monkeypatch):
    """Clamps act on large values only, so the weights are made large."""
    own = make_pair("gpt-oss")
    with torch.no_grad():
        for name, parameter in own.independent.named_parameters():
            if "experts.gate_up_proj" in name:
                parameter.mul_(40)
        wanted = own.independent(own.ids, use_cache=False).logits
    assert distance(whole(own.ours(), own.ids), wanted) < 1e-4 * wanted.abs().max().item()
    monkeypatch.setattr(experts, "CLAMP", 1e9)
    assert relative(whole(own.ours(), own.ids), wanted) > 1e-2


def test_a_window_hides_exactly_the_pairs_that_the_flop_leave_out():
    for n_new, n_past, window in ((10, 0, 4), (10, 3, 4), (1, 20, 8), (5, 6, 8), (3, 0, 8)):
        n_total = n_new + n_past
        masked = causal(torch.zeros(1, 1, n_new, n_total), window)
        assert pairs(n_new, n_total, window) == int((masked == 0).sum())
