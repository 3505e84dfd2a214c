"""Every family against the independent implementation: numbers, FLOP, layouts, repetition."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from families import FAMILIES, Pair, in_pieces, make_pair, whole
from tiny import distance, relative
from torch.utils.flop_counter import FlopCounterMode

from model_graphs.blueprint import (
    Activation,
    AttentionSpec,
    Blueprint,
    DeltaNetSpec,
    LatentAttentionSpec,
    LayerSpec,
    Mamba2Spec,
    MixtureSpec,
    QueryKeyNorm,
    Scoring,
)
from model_graphs.graph_io import phases_of
from model_graphs.layout import Layout, apply_layout
from model_graphs.totals import graph_work
from reference_impl import published_names
from reference_impl.decoder import build_model
from reference_impl.emission import emit, emit_layers
from reference_impl.kernels import experts
from reference_impl.kernels.attention import causal, pairs
from reference_impl.kernels.recurrent import DELTA_CHUNK
from reference_impl.loading import load_main_model

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
    """Gemma's norms magnify rounding: the other one's own passes in one and in pieces differ by 1e-5 too."""
    own = pair(name)
    tolerance = max(TOLERANCE, 3 * distance(own.logits_in_pieces(), own.logits))
    assert tolerance < (5e-5 if "gemma" in name else 2e-5)
    assert distance(in_pieces(own.ours(), own.ids), own.logits) < tolerance


@pytest.mark.parametrize("name", EXPORTED)
def test_flop_equal_the_frameworks_counter_on_the_independent_implementation(name):
    """Equal to the last FLOP, but for the tables of sines, which the other one makes by a product.

    Sparse attention it computes densely, on expanded keys; what it does otherwise is listed by layer.
    """
    family, n_tokens = FAMILIES[name], 64
    with FlopCounterMode(display=False) as counter:
        run_on_meta(name, n_tokens)
    tables = sum(rope.width * n_tokens for rope in family.blueprint.ropes)
    ours = graph_work(emit(family.blueprint, "prefill")).flop.exact({"B": 1, "S": n_tokens})
    otherwise = _unchosen_experts(name, n_tokens)
    otherwise += sum(_counted_otherwise(layer, n_tokens) for layer in family.blueprint.layers)
    otherwise += sum(_flop_of_dense_attention(layer, n_tokens) for layer in family.blueprint.layers)
    assert counter.get_total_flops() - otherwise - ours in (0, tables)


def _counted_otherwise(layer: LayerSpec, n_tokens: int) -> int:
    """What the counter sees in a recurrent layer beyond our FLOP.

    It counts the convolution as a product, over its padding too. Mamba-2's B and C are multiplied for every
    head there, for every group here, and chunks hand on states by a product there. The delta rule's
    triangular systems it does not see: two products here.
    """
    match layer.mixer:
        case Mamba2Spec() as m:
            channels, n_chunks = m.inner + 2 * m.groups * m.state, n_tokens // m.chunk
            scores = 2 * n_tokens * m.chunk * m.state * (m.heads - m.groups)
            passing = 2 * (n_chunks + 1) ** 2 * m.inner * m.state
            return 2 * (n_tokens + m.conv - 1) * m.conv * channels + scores + passing
        case DeltaNetSpec() as d:
            channels = 2 * d.key_heads * d.key_dim + d.value_heads * d.value_dim
            systems = 2 * n_tokens * DELTA_CHUNK * d.value_heads * (d.key_dim + d.value_dim)
            return 2 * (n_tokens + d.conv - 1) * d.conv * channels - systems
    return 0


@torch.no_grad()
def run_on_meta(name: str, n_tokens: int) -> None:
    """A pass of the independent implementation; BLOOM's makes its biases from a mask that must be real."""
    with torch.device("cpu" if name == "bloom" else "meta"):
        model = FAMILIES[name].independent()
        ids = torch.zeros(1, n_tokens, dtype=torch.int64)
        mask = torch.zeros(1, 1, n_tokens, n_tokens)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("batched_mm")
    if name == "bloom":
        model(ids, use_cache=False)
        return
    kinds = {"full_attention": mask, "sliding_attention": mask, "linear_attention": None}
    given = kinds if FAMILIES[name].masks_by_kind else mask
    model(ids, attention_mask=given, position_ids=ids, use_cache=False)


def _unchosen_experts(name: str, n_tokens: int) -> int:
    """FLOP of Llama 4's experts on tokens that did not choose them, which the other one weighs with zero."""
    blueprint = FAMILIES[name].blueprint
    parts = (layer.feed_forward for layer in blueprint.layers)
    mixtures = [part for part in parts if isinstance(part, MixtureSpec) and part.weighs_inputs]
    return sum(6 * n_tokens * blueprint.hidden_size * m.inter * (m.experts - m.topk) for m in mixtures)


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


def test_a_window_of_gemma_that_is_one_token_off_breaks_parity():
    assert _mistaken("gemma 3", window=9) > 1e-3
    assert _mistaken("phi 3", window=8) > 1e-3


def test_a_chunk_that_is_one_token_off_or_slides_breaks_parity():
    for changes in ({"window": 13}, {"window": 11}, {"chunked": False}):
        assert _mistaken("llama 4", **changes) > 1e-3


def test_queries_of_one_temperature_break_parity():
    assert _mistaken("llama 4", temperature=None) > 1e-3


def test_rotated_queries_and_keys_that_are_not_normalised_break_parity():
    assert _mistaken("llama 4", norm=QueryKeyNorm.NONE) > 1e-2


def test_weighing_what_experts_give_instead_of_what_they_read_breaks_parity():
    assert _mistaken_mixture("llama 4", weighs_inputs=False) > 1e-2


def test_weights_of_mixtral_over_all_experts_break_parity():
    assert _mistaken_mixture("mixtral", normalise=False) > 1e-2
    assert _mistaken_mixture("mixtral", scoring=Scoring.SIGMOID) > 1e-2


def _mistaken_blueprint(name: str, **changes: object) -> float:
    own = pair(name)
    mistaken = own.ours(replace(own.family.blueprint, **changes))
    return relative(whole(mistaken, own.ids), own.logits)


def test_embeddings_that_are_not_scaled_break_parity():
    for name in ("gemma", "gemma 3"):
        assert _mistaken_blueprint(name, embedding_scale=1.0) > 1e-2


def test_embeddings_that_are_not_normalised_break_parity():
    assert _mistaken_blueprint("bloom", embedding_norm=False) > 1e-2


def test_positions_without_their_offset_break_parity():
    own = pair("opt")
    mistaken = own.ours()
    mistaken.embed_positions.offset = 0
    assert relative(whole(mistaken, own.ids), own.logits) > 1e-2


def _without(name: str, part: str) -> float:
    """Relative error of a model whose layers skip a part."""
    own = pair(name)
    mistaken = own.ours()
    for layer in mistaken.layers:
        setattr(layer, part, torch.nn.Identity())
    return relative(whole(mistaken, own.ids), own.logits)


def test_a_sandwich_without_one_of_its_outer_norms_breaks_parity():
    assert _without("gemma 3", "attention_output_norm") > 1e-2
    assert _without("gemma 3", "mlp_output_norm") > 1e-2


def test_norms_that_take_the_published_weight_as_it_is_break_parity(monkeypatch):
    monkeypatch.setattr(published_names, "_one_more", published_names.stacked)
    own = pair("gemma")
    names = published_names._gemma(published_names._GEMMA_NORMS)
    model = build_model(own.family.blueprint)
    load_main_model(model, own.independent.state_dict(), names)
    assert relative(whole(model, own.ids), own.logits) > 1e-2


def test_slopes_of_the_nearest_power_of_two_break_parity():
    own = pair("bloom")
    mistaken = own.ours()
    for layer in mistaken.layers:
        layer.self_attn.core.slopes = torch.tensor([2 ** (-(h + 1) / 3) for h in range(24)])
    assert relative(whole(mistaken, own.ids), own.logits) > 1e-3


def test_biases_that_are_left_out_break_parity():
    for name in ("phi 2", "gpt-j"):
        assert _mistaken_blueprint(name, head_bias=False) > 1e-2
    assert _mistaken("stable lm", qkv_bias=False) > 1e-2


def test_another_activation_breaks_parity():
    for name, wrong in (("opt", Activation.GELU), ("gemma", Activation.SILU)):
        own = pair(name)
        layers = own.family.blueprint.layers
        changed = (replace(x, feed_forward=replace(x.feed_forward, activation=wrong)) for x in layers)
        assert _mistaken_blueprint(name, layers=tuple(changed)) > 1e-3


def test_chunks_hide_exactly_thepairs_that_the_flop_leave_out():
    for n_new, n_past, chunk in ((10, 0, 4), (10, 3, 4), (1, 20, 8), (5, 6, 8), (3, 0, 8), (1, 16, 8)):
        n_total = n_new + n_past
        masked = causal(torch.zeros(1, 1, n_new, n_total), chunk, chunked=True)
        assert pairs(n_new, n_total, chunk, chunked=True) == int((masked == 0).sum())
