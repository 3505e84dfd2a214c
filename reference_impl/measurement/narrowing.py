"""Smaller members of a model's family: fewer layers, or the same operators at widths of milliseconds."""

from dataclasses import replace

from model_graphs.blueprint import (
    AttentionSpec,
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

#: the greatest widths and counts that a narrow model keeps
VOCABULARY = 4096
HIDDEN = 512
HEADS = 8
HEAD_DIM = 64
Q_RANK, KV_RANK = 192, 64
CONTENT, POSITION, VALUE = 32, 16, 32
INDEX_WIDTH, INDEX_TOPK = 32, 64
INTERMEDIATE = 1024
EXPERT_INTERMEDIATE = 256
EXPERTS, TOPK, GROUPS = 16, 4, 4


def some_layers(blueprint: Blueprint, n_layers: int) -> Blueprint:
    """The blueprint with `n_layers` of its layers, evenly over its depth, and no multi-token prediction.

    The first is always among them, the last too where there are several: where the kinds of layers differ
    between the ends of a model, both are kept.
    """
    last = len(blueprint.layers) - 1
    steps = max(n_layers - 1, 1)
    kept = tuple(blueprint.layers[i * last // steps] for i in range(n_layers))
    return replace(blueprint, layers=kept, mtp_layers=())


def narrowed(blueprint: Blueprint) -> Blueprint:
    """The blueprint with every width and count at most that of a narrow model."""
    return replace(
        blueprint,
        vocab_size=min(blueprint.vocab_size, VOCABULARY),
        hidden_size=min(blueprint.hidden_size, HIDDEN),
        layers=tuple(map(_layer, blueprint.layers)),
        mtp_layers=tuple(map(_layer, blueprint.mtp_layers)),
    )


def _layer(layer: LayerSpec) -> LayerSpec:
    return replace(layer, mixer=_mixer(layer.mixer), feed_forward=_feed_forward(layer.feed_forward))


def _mixer(spec: Mixer) -> Mixer:
    return _grouped(spec) if isinstance(spec, AttentionSpec) else _latent(spec)


def _grouped(spec: AttentionSpec) -> AttentionSpec:
    """As many queries share a key-value head as before, as far as there are heads."""
    heads = min(spec.heads, HEADS)
    shared_by = min(spec.heads // spec.kv_heads, heads)
    head_dim = min(spec.head_dim, HEAD_DIM)
    rope = spec.rope and _rope(spec.rope, spec.rope.width * head_dim // spec.head_dim)
    return replace(spec, heads=heads, kv_heads=heads // shared_by, head_dim=head_dim, rope=rope)


def _latent(spec: LatentAttentionSpec) -> LatentAttentionSpec:
    return replace(
        spec,
        heads=min(spec.heads, HEADS),
        q_rank=spec.q_rank and min(spec.q_rank, Q_RANK),
        kv_rank=min(spec.kv_rank, KV_RANK),
        content=min(spec.content, CONTENT),
        position=min(spec.position, POSITION),
        value=min(spec.value, VALUE),
        rope=_rope(spec.rope, min(spec.position, POSITION)),
        indexer=spec.indexer and _indexer(spec.indexer),
    )


def _indexer(spec: IndexerSpec) -> IndexerSpec:
    """A head stays wider than the positions that rotate it."""
    return replace(
        spec,
        heads=min(spec.heads, HEADS),
        width=min(spec.width, INDEX_WIDTH),
        topk=min(spec.topk, INDEX_TOPK),
    )


def _rope(spec: RopeSpec, width: int) -> RopeSpec:
    return replace(spec, width=width // 2 * 2)


def _feed_forward(spec: FeedForward) -> FeedForward:
    if isinstance(spec, FeedForwardSpec):
        return replace(spec, inter=min(spec.inter, INTERMEDIATE))
    return _mixture(spec)


def _mixture(spec: MixtureSpec) -> MixtureSpec:
    groups = min(spec.groups, GROUPS)
    topk_groups = min(spec.topk_groups, max(groups // 2, 1))
    experts = min(spec.experts, EXPERTS) // groups * groups
    shared = spec.shared and replace(spec.shared, inter=min(spec.shared.inter, EXPERT_INTERMEDIATE))
    return replace(
        spec,
        experts=experts,
        topk=min(spec.topk, TOPK, experts // groups * topk_groups),
        inter=min(spec.inter, EXPERT_INTERMEDIATE),
        groups=groups,
        topk_groups=topk_groups,
        shared=shared,
    )
