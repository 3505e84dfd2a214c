"""Encoders against the independent implementation, and an image in front of a prompt of DeepSeek V3."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import transformers
from families import in_pieces_after
from tiny import TINY, distance, positions_of, randomise, relative
from torch.utils.flop_counter import FlopCounterMode

from model_graphs.architectures import ARCHITECTURES
from model_graphs.blueprint import Activation, EncoderBlueprint
from model_graphs.configs import resolve_model
from model_graphs.layout import Layout, apply_layout
from model_graphs.totals import graph_work
from reference_impl.emission import emit, emit_layers
from reference_impl.encoder import Encoder, build_encoder, patches_of
from reference_impl.loading import load_encoder
from reference_impl.published_names import names_of
from reference_impl.vision import ImagePrompt

TOLERANCE = 1e-5
BERT = {
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
VIT = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-12,
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "qkv_bias": True,
}


def blueprint_of(architecture: str, **figures: object) -> EncoderBlueprint:
    return ARCHITECTURES[architecture](**figures).blueprint


BLUEPRINTS = {
    "bert": blueprint_of("BertForQuestionAnswering", **BERT),
    "vit": blueprint_of("ViTForImageClassification", **VIT, num_labels=7),
    "vit for v3": blueprint_of("ViTForDeepseekV3", **VIT, text_hidden_size=TINY.hidden_size),
}


@cache
def independent(name: str):
    torch.manual_seed(0)
    if name == "bert":
        model = transformers.BertForQuestionAnswering(transformers.BertConfig(**BERT))
    else:
        config = transformers.ViTConfig(**VIT, num_labels=BLUEPRINTS[name].outputs)
        model = transformers.ViTForImageClassification(config)
    randomise(model)
    model.set_attn_implementation("eager")
    return model.eval()


def ours(name: str, blueprint: EncoderBlueprint | None = None) -> Encoder:
    architecture = "BertForQuestionAnswering" if name == "bert" else "ViTForImageClassification"
    model = build_encoder(blueprint or BLUEPRINTS[name])
    load_encoder(model, independent(name).state_dict(), names_of(architecture))
    return model


@cache
def question() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 96, (2, 17), generator=generator)
    return ids, (torch.arange(17) > 6).long().expand(2, -1), positions_of(ids)


@cache
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def spans(model, ids, types) -> torch.Tensor:
    out = model(ids, token_type_ids=types)
    return torch.stack([out.start_logits, out.end_logits], -1)


@torch.no_grad()
def bert_error(model: Encoder) -> float:
    ids, types, positions = question()
    return relative(model(ids, types, positions)[0], spans(independent("bert"), ids, types))


@torch.no_grad()
def vit_error(model: Encoder) -> float:
    return relative(model(patches_of(images(), 8))[0], independent("vit")(images()).logits)


def test_answers_equal_the_independent_implementation():
    assert bert_error(ours("bert")) < TOLERANCE


def test_classes_equal_the_independent_implementation():
    assert vit_error(ours("vit")) < TOLERANCE


@pytest.mark.slow
@torch.no_grad()
def test_bert_large_of_full_size_equals_the_independent_implementation():
    config = resolve_model("bert-large").config
    torch.manual_seed(0)
    hf = transformers.BertForQuestionAnswering(transformers.BertConfig(**config.model_dump())).eval()
    model = build_encoder(config.blueprint)
    load_encoder(model, hf.state_dict(), names_of("BertForQuestionAnswering"))
    assert sum(p.numel() for p in model.parameters()) == 334_094_338
    ids = torch.randint(0, config.vocab_size, (1, 384))
    types = (torch.arange(384) > 20).long()[None]
    assert distance(model(ids, types, positions_of(ids))[0], spans(hf, ids, types)) < TOLERANCE


@torch.no_grad()
def test_an_answer_depends_on_what_follows_it():
    ids, types, positions = question()
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 96
    first = ours("bert")
    assert distance(first(ids, types, positions)[0][:, 0], first(changed, types, positions)[0][:, 0]) > 1e-3


@torch.no_grad()
def test_leaving_out_types_or_positions_breaks_parity():
    for part in ("embed_types", "embed_positions"):
        mistaken = ours("bert")
        getattr(mistaken.embeddings, part).weight.zero_()
        assert bert_error(mistaken) > 1e-2


def test_another_epsilon_or_activation_breaks_parity():
    layers = BLUEPRINTS["bert"].layers
    tanh = tuple(
        replace(x, feed_forward=replace(x.feed_forward, activation=Activation.GELU_TANH)) for x in layers
    )
    assert bert_error(ours("bert", replace(BLUEPRINTS["bert"], norm_eps=0.1))) > 1e-2
    assert bert_error(ours("bert", replace(BLUEPRINTS["bert"], layers=tanh))) > 1e-5


@torch.no_grad()
def test_patches_out_of_place_break_parity():
    given = ours("vit")(patches_of(images().transpose(2, 3), 8))[0]
    assert relative(given, independent("vit")(images()).logits) > 1e-2


@torch.no_grad()
def test_normalising_the_sum_instead_of_the_input_breaks_parity():
    mistaken = ours("vit")
    for layer in mistaken.layers:
        layer.forward = lambda x, residual, own=layer: own.closing_norm(
            own.mlp(own.attention_norm(own.self_attn(x), x)[0]), x
        )
    assert vit_error(mistaken) > 1e-2


@torch.no_grad()
def test_an_image_in_front_of_a_prompt_equals_the_independent_implementations(oracle):
    """Patch tokens of their encoder through a classifier as projector, then their decoder on embeddings."""
    ids = oracle.ids[:, :9]
    vit = independent("vit for v3")
    tokens = vit.classifier(vit.vit(images()).last_hidden_state[:, 1:])
    prompt = torch.cat([tokens, oracle.hf.model.embed_tokens(ids)], 1)
    wanted = oracle.hf(inputs_embeds=prompt, use_cache=False).logits
    given, _, _ = ImagePrompt(ours("vit for v3"), oracle.ours())(patches_of(images(), 8), ids)
    assert distance(given, wanted) < TOLERANCE


@torch.no_grad()
def test_decoding_goes_on_after_an_image(oracle):
    prompt = ImagePrompt(ours("vit for v3"), oracle.ours())
    pixels, ids = patches_of(images(), 8), oracle.ids[:, :9]
    whole, _, _ = prompt(pixels, ids)
    _, _, caches = prompt(pixels, ids[:, :7])
    assert distance(in_pieces_after(prompt.decoder, ids[:, 7:], caches, 16 + 7), whole[:, -2:]) < TOLERANCE


@torch.no_grad()
def test_text_before_the_image_breaks_parity(oracle):
    prompt = ImagePrompt(ours("vit for v3"), oracle.ours())
    pixels, ids = patches_of(images(), 8), oracle.ids[:, :9]
    tokens, _ = prompt.encoder(pixels)
    text = prompt.decoder.embed(ids, positions_of(ids))
    mistaken, _, _ = prompt.decoder.run(torch.cat([text, tokens], 1), positions_of(torch.zeros(2, 25)))
    assert relative(mistaken[:, -1], prompt(pixels, ids)[0][:, -1]) > 1e-2


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_encoding_is_a_phase_of_its_own(name):
    graph = emit(BLUEPRINTS[name], "encode")
    assert [(b.name, b.repeat) for b in graph.blocks] == [("embedding", 1), ("layer", 3), ("head", 1)]
    assert graph.symbols == (("B", "S") if name == "bert" else ("B",))
    unrolled = [block.operators for block in emit_layers(BLUEPRINTS[name], "encode")]
    assert unrolled[1] == unrolled[2] == unrolled[3] == graph.blocks[1].operators


@pytest.mark.parametrize("name", ["bert", "vit"])
@torch.no_grad()
def test_flop_equal_the_frameworks_counter_on_the_independent_implementation(name):
    with FlopCounterMode(display=False) as counter:
        if name == "bert":
            independent(name)(question()[0])
        else:
            independent(name)(images())
    ours_flop = graph_work(emit(BLUEPRINTS[name], "encode")).flop.exact({"B": 2, "S": 17})
    assert ours_flop == counter.get_total_flops()


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_the_layout_pass_gives_what_a_rank_exports(name):
    layout = Layout.of(BLUEPRINTS[name], gpus=4, tp=4)
    assert apply_layout(emit(BLUEPRINTS[name], "encode"), layout) == emit(BLUEPRINTS[name], "encode", layout)
