"""What a decoder is made of, by the parts that its reference implementation is built from.

A config of any architecture (see `model_graphs.architectures`) says the same thing in the words of its
`config.json`; its `blueprint` says it in these records, and everything that follows (reference model,
emission, layouts) reads nothing else. Widths are counts of features, and describe the whole model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


@dataclass(frozen=True)
class YarnScaling:
    """YaRN: pairs that turn often keep their frequency, slow ones are slowed by `factor`, a ramp between.

    `magnitude` multiplies sines and cosines. `truncate` rounds the ends of the ramp outwards to whole pairs.
    """

    factor: float
    original_positions: int
    beta_fast: float
    beta_slow: float
    magnitude: float
    truncate: bool = True


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1: waves above `original / low` are stretched by `factor`, under `original / high` kept."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_positions: int


@dataclass(frozen=True)
class LinearScaling:
    """Every position divided by `factor`."""

    factor: float


@dataclass(frozen=True)
class RopeSpec:
    """Rotary positions of the first `width` features of a head.

    With `neighbours` the features 2 i and 2 i + 1 turn together, else i and i + width / 2.
    """

    width: int
    theta: float
    scaling: YarnScaling | Llama3Scaling | LinearScaling | None = None
    neighbours: bool = False


class QueryKeyNorm(StrEnum):
    """How queries and keys are normalised before they are rotated."""

    NONE = "none"
    HEAD = "head"  # each head by itself
    WIDTH = "width"  # all heads as one vector


@dataclass(frozen=True)
class AttentionSpec:
    """Attention of `heads` query heads over `kv_heads` heads of keys and values (equal: multi-head).

    `window` is the number of last tokens that a token sees, itself included. With `sinks` each head has a
    learned score that takes part in its softmax and has no value.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rope: RopeSpec | None
    scale: float
    window: int | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    norm: QueryKeyNorm = QueryKeyNorm.NONE
    sinks: bool = False


@dataclass(frozen=True)
class IndexerSpec:
    """Picks the `topk` cached tokens that a query attends to: those that `heads` small heads score highest.

    A head is `width` wide; its first features are rotated as the attention's are, in pairs of `neighbours`
    or of halves. Its keys, one for all heads, are cached beside the latent.
    """

    heads: int
    width: int
    topk: int
    neighbours: bool


@dataclass(frozen=True)
class LatentAttentionSpec:
    """Multi-head latent attention: queries and key-values through low ranks, one latent cached a token.

    A head has `content` features without position, `position` rotated ones and `value` of output. Without a
    `q_rank` queries are made in one product. An `indexer` makes the attention sparse.
    """

    heads: int
    q_rank: int | None
    kv_rank: int
    content: int
    position: int
    value: int
    rope: RopeSpec
    scale: float
    indexer: IndexerSpec | None = None

    @property
    def latent_width(self) -> int:
        """Width of a token's cached latent: compressed keys and values, and the rotated key of all heads."""
        return self.kv_rank + self.position


class Activation(StrEnum):
    """Functions between the two products of a feed-forward part."""

    SILU = "silu"
    CLAMPED_SWIGLU = "clamped_swiglu"  # gpt-oss: gate and up clamped at 7, (up + 1) gate sigmoid(1.702 gate)


@dataclass(frozen=True)
class FeedForwardSpec:
    """A gated MLP of the intermediate width `inter`."""

    inter: int
    activation: Activation = Activation.SILU


class Scoring(StrEnum):
    """How a router turns logits into scores."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


@dataclass(frozen=True)
class MixtureSpec:
    """A mixture of `experts`, of which a token uses `topk` of intermediate width `inter`.

    A choice is made inside the best `topk_groups` of `groups`, a group being as good as the sum of its best
    `scored_of_group` experts. `balanced` adds a bias to the scores that
    decides who is chosen and never what a choice weighs; `router_bias` is one of the logits.
    """

    experts: int
    topk: int
    inter: int
    scoring: Scoring
    normalise: bool
    scale: float = 1.0
    groups: int = 1
    topk_groups: int = 1
    scored_of_group: int = 2
    balanced: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    activation: Activation = Activation.SILU
    shared: FeedForwardSpec | None = None


Mixer = AttentionSpec | LatentAttentionSpec
FeedForward = FeedForwardSpec | MixtureSpec


@dataclass(frozen=True)
class LayerSpec:
    """A layer: what mixes tokens, then what works on each token; `name` is that of its block in a graph."""

    name: str
    mixer: Mixer
    feed_forward: FeedForward


@dataclass(frozen=True)
class Blueprint:
    """A whole decoder, embedding to head, and its multi-token prediction modules."""

    vocab_size: int
    hidden_size: int
    layers: tuple[LayerSpec, ...]
    norm_eps: float
    max_positions: int
    tied_embeddings: bool = False
    mtp_layers: tuple[LayerSpec, ...] = ()

    @property
    def dense(self) -> "Blueprint":
        """The same model without indexers: every query attends to all cached tokens."""
        return replace(
            self,
            layers=tuple(map(_without_indexer, self.layers)),
            mtp_layers=tuple(map(_without_indexer, self.mtp_layers)),
        )

    @property
    def kinds(self) -> Mapping[LayerSpec, int]:
        """Each kind of layer and how many there are, in order of first appearance."""
        counts: dict[LayerSpec, int] = {}
        for layer in self.layers:
            counts[layer] = counts.get(layer, 0) + 1
        return counts

    @property
    def ropes(self) -> tuple[RopeSpec, ...]:
        """The distinct kinds of rotary position, whose tables are made once a step."""
        layers = (*self.layers, *self.mtp_layers)
        return tuple(dict.fromkeys(layer.mixer.rope for layer in layers if layer.mixer.rope is not None))

    @property
    def n_experts(self) -> int:
        """Routed experts of a mixture layer; 0 for a dense model."""
        return max((m.experts for m in self._feed_forwards() if isinstance(m, MixtureSpec)), default=0)

    def tensor_parallel_widths(self) -> dict[str, int]:
        """What tensor parallelism must divide, by name."""
        widths = {"vocab_size": self.vocab_size}
        for layer in self.layers:
            widths["num_attention_heads"] = layer.mixer.heads
            part = layer.feed_forward
            if isinstance(part, FeedForwardSpec):
                widths["intermediate_size"] = part.inter
            elif part.shared is not None:
                widths["shared_intermediate_size"] = part.shared.inter
        return widths

    def kv_head_counts(self) -> frozenset[int]:
        """Numbers of key-value heads, which tensor parallelism divides or replicates."""
        return frozenset(
            layer.mixer.kv_heads for layer in self.layers if isinstance(layer.mixer, AttentionSpec)
        )

    def expert_widths(self) -> dict[str, int]:
        """Intermediate widths of routed experts, which expert tensor parallelism must divide, by name."""
        widths = {m.inter for m in self._feed_forwards() if isinstance(m, MixtureSpec)}
        assert len(widths) <= 1, "every mixture of a model has experts of one width"
        return dict.fromkeys(("moe_intermediate_size",), *widths) if widths else {}

    def _feed_forwards(self) -> Iterator[FeedForward]:
        return (layer.feed_forward for layer in self.layers)


def _without_indexer(layer: LayerSpec) -> LayerSpec:
    if not isinstance(layer.mixer, LatentAttentionSpec):
        return layer
    return replace(layer, mixer=replace(layer.mixer, indexer=None))
