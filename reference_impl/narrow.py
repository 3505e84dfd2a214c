"""Small members of a model's family, and random weights for them.

Same kinds of layers, heads that share in the same proportion, routing rules, positions and windows; fewer
layers, narrower. They serve to run code paths, never to say how fast or how good the model is.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from model_graphs.blueprint import (
    AttentionSpec,
    Blueprint,
    DeltaNetSpec,
    FeedForward,
    FeedForwardSpec,
    IndexerSpec,
    LatentAttentionSpec,
    LayerSpec,
    Mamba2Spec,
    Mixer,
    MixtureSpec,
    RopeSpec,
)


@dataclass(frozen=True)
class Widths:
    """The greatest widths and counts that a narrow model keeps."""

    vocabulary: int
    hidden: int
    heads: int
    head: int
    q_rank: int
    kv_rank: int
    content: int
    position: int
    value: int
    index: int
    index_topk: int
    inter: int
    expert_inter: int
    experts: int = 16
    topk: int = 4
    groups: int = 4


#: for tests and demonstrations: under three million parameters
TINY = Widths(512, 128, 4, 16, 64, 32, 16, 16, 16, 16, 8, 256, 64)
#: for measured steps: operators of milliseconds on a CPU
SMALL = Widths(4096, 512, 8, 64, 192, 64, 32, 16, 32, 32, 64, 1024, 256)
LAYERS_OF_A_KIND = 2
WEIGHT_STD = 0.05


def narrow(
    blueprint: Blueprint, layers_of_a_kind: int = LAYERS_OF_A_KIND, widths: Widths = TINY
) -> Blueprint:
    """The blueprint with at most this many layers of each kind, in their order, and with capped widths.

    Positions stay as they are, so that long contexts can be run.
    """
    return narrowed(
        replace(blueprint, layers=tuple(_first_of_each_kind(blueprint, layers_of_a_kind))), widths
    )


def narrowed(blueprint: Blueprint, widths: Widths = SMALL) -> Blueprint:
    """The blueprint with every width and count at most that of a narrow model, and all of its layers."""
    narrower = _Narrower(widths)
    return replace(
        blueprint,
        vocab_size=min(blueprint.vocab_size, widths.vocabulary),
        hidden_size=min(blueprint.hidden_size, widths.hidden),
        layers=tuple(map(narrower.layer, blueprint.layers)),
        mtp_layers=tuple(map(narrower.layer, blueprint.mtp_layers)),
    )


def some_layers(blueprint: Blueprint, n_layers: int) -> Blueprint:
    """The blueprint with `n_layers` of its layers, evenly over its depth, and no multi-token prediction.

    The first is always among them, the last too where there are several: where the kinds of layers differ
    between the ends of a model, both are kept.
    """
    last = len(blueprint.layers) - 1
    steps = max(n_layers - 1, 1)
    kept = tuple(blueprint.layers[i * last // steps] for i in range(n_layers))
    return replace(blueprint, layers=kept, mtp_layers=())


def _first_of_each_kind(blueprint: Blueprint, n: int) -> list[LayerSpec]:
    kept: list[LayerSpec] = []
    for layer in blueprint.layers:
        if kept.count(layer) < n:
            kept.append(layer)
    return kept


@dataclass(frozen=True)
class _Narrower:
    """Specs with capped widths."""

    widths: Widths

    def layer(self, layer: LayerSpec) -> LayerSpec:
        return replace(
            layer, mixer=self._mixer(layer.mixer), feed_forward=self._feed_forward(layer.feed_forward)
        )

    def _mixer(self, spec: Mixer | None) -> Mixer | None:
        match spec:
            case AttentionSpec():
                return self._grouped(spec)
            case LatentAttentionSpec():
                return self._latent(spec)
            case Mamba2Spec():
                return self._mamba(spec)
            case DeltaNetSpec():
                return self._delta_net(spec)
        return None

    def _shared(self, heads: int, sharing: int) -> tuple[int, int]:
        """Heads, and what they share: as many to each as before, as far as there are heads."""
        kept = min(heads, self.widths.heads)
        return kept, kept // min(heads // sharing, kept)

    def _mamba(self, spec: Mamba2Spec) -> Mamba2Spec:
        heads, groups = self._shared(spec.heads, spec.groups)
        head_dim, state = min(spec.head_dim, self.widths.head), min(spec.state, self.widths.head)
        return replace(spec, heads=heads, groups=groups, head_dim=head_dim, state=state)

    def _delta_net(self, spec: DeltaNetSpec) -> DeltaNetSpec:
        heads, keys = self._shared(spec.value_heads, spec.key_heads)
        key, value = min(spec.key_dim, self.widths.head), min(spec.value_dim, self.widths.head)
        return replace(spec, value_heads=heads, key_heads=keys, key_dim=key, value_dim=value)

    def _grouped(self, spec: AttentionSpec) -> AttentionSpec:
        heads, kv_heads = self._shared(spec.heads, spec.kv_heads)
        head_dim = min(spec.head_dim, self.widths.head)
        return replace(
            spec,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            rope=spec.rope and _rope(spec.rope, spec.rope.width * head_dim // spec.head_dim),
            scale=spec.scale * (spec.head_dim / head_dim) ** 0.5,
        )

    def _latent(self, spec: LatentAttentionSpec) -> LatentAttentionSpec:
        widths = self.widths
        content, position = min(spec.content, widths.content), min(spec.position, widths.position)
        return replace(
            spec,
            heads=min(spec.heads, widths.heads),
            q_rank=spec.q_rank and min(spec.q_rank, widths.q_rank),
            kv_rank=min(spec.kv_rank, widths.kv_rank),
            content=content,
            position=position,
            value=min(spec.value, widths.value),
            rope=_rope(spec.rope, position),
            scale=spec.scale * ((spec.content + spec.position) / (content + position)) ** 0.5,
            indexer=spec.indexer and self._indexer(spec.indexer),
        )

    def _indexer(self, spec: IndexerSpec) -> IndexerSpec:
        """A head stays as wide as the positions that rotate it."""
        return replace(
            spec,
            heads=min(spec.heads, self.widths.heads),
            width=min(spec.width, self.widths.index),
            topk=min(spec.topk, self.widths.index_topk),
        )

    def _feed_forward(self, spec: FeedForward | None) -> FeedForward | None:
        if isinstance(spec, FeedForwardSpec):
            return replace(spec, inter=min(spec.inter, self.widths.inter))
        return None if spec is None else self._mixture(spec)

    def _mixture(self, spec: MixtureSpec) -> MixtureSpec:
        widths = self.widths
        groups = min(spec.groups, widths.groups)
        topk_groups = min(spec.topk_groups, max(groups // 2, 1))
        experts = min(spec.experts, widths.experts) // groups * groups
        shared = spec.shared and replace(spec.shared, inter=min(spec.shared.inter, widths.expert_inter))
        return replace(
            spec,
            experts=experts,
            topk=min(spec.topk, widths.topk, experts // groups * topk_groups),
            inter=min(spec.inter, widths.expert_inter),
            groups=groups,
            topk_groups=topk_groups,
            shared=shared,
            latent=spec.latent and min(spec.latent, widths.hidden // 2),
        )


def _rope(spec: RopeSpec, width: int) -> RopeSpec:
    return replace(spec, width=width // 2 * 2)


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Spread weights from a seed: normal matrices, vectors around one, small router biases.

    Buffers that are computed, and not stored, stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.empty(parameter.shape)
        if parameter.dim() > 1:
            drawn.normal_(0, WEIGHT_STD, generator=generator)
        else:
            drawn.uniform_(0.5, 1.5, generator=generator)
        parameter.copy_(drawn)
    stored = model.state_dict().keys()
    for buffer in (held for name, held in model.named_buffers() if name in stored):
        buffer.copy_(torch.empty(buffer.shape).normal_(0, WEIGHT_STD, generator=generator))
