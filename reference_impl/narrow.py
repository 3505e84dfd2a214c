"""A small member of a model's family, and random weights for it.

Same kinds of layers, heads that share in the same proportion, routing rules, positions and windows; fewer
layers, narrower. It serves to run code paths, never to say how fast or how good the model is.
"""

from dataclasses import replace

import torch
from torch import nn

from model_graphs.blueprint import (
    Blueprint,
    FeedForward,
    FeedForwardSpec,
    IndexerSpec,
    LatentAttentionSpec,
    LayerSpec,
    Mixer,
    MixtureSpec,
    RopeSpec,
)

MAX_VOCABULARY = 512
MAX_HIDDEN = 128
MAX_HEADS = 4
MAX_HEAD_WIDTH = 16
MAX_QUERY_RANK, MAX_LATENT_RANK = 64, 32
MAX_CHOSEN_TOKENS = 8
MAX_DENSE_INTER, MAX_EXPERT_INTER = 256, 64
MAX_EXPERTS, MAX_TOPK = 16, 4
MAX_GROUPS, MAX_TOPK_GROUPS = 4, 2
LAYERS_OF_A_KIND = 2
WEIGHT_STD = 0.05


def narrow(blueprint: Blueprint, layers_of_a_kind: int = LAYERS_OF_A_KIND) -> Blueprint:
    """The blueprint with at most this many layers of each kind, in their order, and with capped widths.

    Positions stay as they are, so that long contexts can be run.
    """
    return replace(
        blueprint,
        vocab_size=min(blueprint.vocab_size, MAX_VOCABULARY),
        hidden_size=min(blueprint.hidden_size, MAX_HIDDEN),
        layers=tuple(_narrow_layer(layer) for layer in _first_of_each_kind(blueprint, layers_of_a_kind)),
        mtp_layers=tuple(_narrow_layer(layer) for layer in blueprint.mtp_layers),
    )


def _first_of_each_kind(blueprint: Blueprint, n: int) -> list[LayerSpec]:
    kept: list[LayerSpec] = []
    for layer in blueprint.layers:
        if kept.count(layer) < n:
            kept.append(layer)
    return kept


def _narrow_layer(layer: LayerSpec) -> LayerSpec:
    return replace(layer, mixer=_narrow_mixer(layer.mixer), feed_forward=_narrow_part(layer.feed_forward))


def _narrow_mixer(spec: Mixer) -> Mixer:
    heads = min(spec.heads, MAX_HEADS)
    if isinstance(spec, LatentAttentionSpec):
        return _narrow_latent(spec, heads)
    head_dim = min(spec.head_dim, MAX_HEAD_WIDTH)
    return replace(
        spec,
        heads=heads,
        kv_heads=max(spec.kv_heads * heads // spec.heads, 1),
        head_dim=head_dim,
        rope=_narrow_rope(spec.rope, head_dim / spec.head_dim) if spec.rope is not None else None,
        scale=spec.scale * (spec.head_dim / head_dim) ** 0.5,
    )


def _narrow_latent(spec: LatentAttentionSpec, heads: int) -> LatentAttentionSpec:
    content, position = min(spec.content, MAX_HEAD_WIDTH), min(spec.position, MAX_HEAD_WIDTH)
    return replace(
        spec,
        heads=heads,
        q_rank=min(spec.q_rank, MAX_QUERY_RANK) if spec.q_rank is not None else None,
        kv_rank=min(spec.kv_rank, MAX_LATENT_RANK),
        content=content,
        position=position,
        value=min(spec.value, MAX_HEAD_WIDTH),
        rope=_narrow_rope(spec.rope, position / spec.position),
        scale=spec.scale * ((spec.content + spec.position) / (content + position)) ** 0.5,
        indexer=_narrow_indexer(spec.indexer) if spec.indexer is not None else None,
    )


def _narrow_indexer(spec: IndexerSpec) -> IndexerSpec:
    return replace(
        spec,
        heads=min(spec.heads, MAX_HEADS),
        width=min(spec.width, MAX_HEAD_WIDTH),
        topk=min(spec.topk, MAX_CHOSEN_TOKENS),
    )


def _narrow_rope(spec: RopeSpec, fraction: float) -> RopeSpec:
    return replace(spec, width=round(spec.width * fraction))


def _narrow_part(spec: FeedForward) -> FeedForward:
    if isinstance(spec, FeedForwardSpec):
        return replace(spec, inter=min(spec.inter, MAX_DENSE_INTER))
    return _narrow_mixture(spec)


def _narrow_mixture(spec: MixtureSpec) -> MixtureSpec:
    shared = spec.shared
    return replace(
        spec,
        experts=min(spec.experts, MAX_EXPERTS),
        topk=min(spec.topk, MAX_TOPK),
        inter=min(spec.inter, MAX_EXPERT_INTER),
        groups=min(spec.groups, MAX_GROUPS),
        topk_groups=min(spec.topk_groups, MAX_TOPK_GROUPS),
        shared=replace(shared, inter=min(shared.inter, MAX_EXPERT_INTER)) if shared is not None else None,
    )


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Spread weights from a seed: normal matrices, vectors around one, small router biases."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.empty(parameter.shape)
        if parameter.dim() > 1:
            drawn.normal_(0, WEIGHT_STD, generator=generator)
        else:
            drawn.uniform_(0.5, 1.5, generator=generator)
        parameter.copy_(drawn)
    for buffer in model.buffers():
        buffer.copy_(torch.empty(buffer.shape).normal_(0, WEIGHT_STD, generator=generator))
