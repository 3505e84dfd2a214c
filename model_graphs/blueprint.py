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
    HEAD_PLAIN = "head_plain"  # the same without a weight
    WIDTH = "width"  # all heads as one vector


@dataclass(frozen=True)
class TemperatureSpec:
    """Queries grow with their position p: times 1 + scale ln(1 + floor((p + 1) / floor))."""

    scale: float
    floor: int


@dataclass(frozen=True)
class AttentionSpec:
    """Attention of `heads` query heads over `kv_heads` heads of keys and values (equal: multi-head).

    `window` is the number of last tokens that a token sees, itself included; where it is `chunked`, positions
    are cut into chunks of that size and a token sees those of its own chunk. With `sinks` each head has a
    learned score that takes part in its softmax and has no value. With `alibi` a head adds its slope times
    the position of the key to its scores. `gated` multiplies the output by the sigmoid of a gate that is
    projected beside each query. Where attention is not `causal`, a token sees all others and nothing is
    cached.
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
    gated: bool = False
    chunked: bool = False
    alibi: bool = False
    temperature: TemperatureSpec | None = None
    causal: bool = True


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


@dataclass(frozen=True)
class Mamba2Spec:
    """Mamba-2: `heads` of width `head_dim`, each with a state of `state` numbers a feature.

    `groups` of heads share what writes and reads the state. A short convolution over the last `conv` tokens
    comes first. Whole chunks of `chunk` tokens are worked on at a time.
    """

    heads: int
    head_dim: int
    groups: int
    state: int
    conv: int
    conv_bias: bool
    chunk: int

    @property
    def inner(self) -> int:
        """Features of all heads."""
        return self.heads * self.head_dim


@dataclass(frozen=True)
class DeltaNetSpec:
    """Gated DeltaNet: a state of `key_dim` x `value_dim` for each of `value_heads`, written by a delta rule.

    Consecutive value heads share one of `key_heads` queries and keys. A short convolution over the last
    `conv` tokens comes first.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv: int


class Activation(StrEnum):
    """Functions between the two products of a feed-forward part."""

    SILU = "silu"
    RELU2 = "relu2"  # the square of ReLU
    CLAMPED_SWIGLU = "clamped_swiglu"  # gpt-oss: gate and up clamped at 7, (up + 1) gate sigmoid(1.702 gate)
    RELU = "relu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"  # the approximation by a hyperbolic tangent


@dataclass(frozen=True)
class FeedForwardSpec:
    """An MLP of the intermediate width `inter`; `gated`, the activation of one product scales another."""

    inter: int
    activation: Activation = Activation.SILU
    gated: bool = True
    bias: bool = False


class Scoring(StrEnum):
    """How a router turns logits into scores."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


@dataclass(frozen=True)
class MixtureSpec:
    """A mixture of `experts`, of which a token uses `topk` of intermediate width `inter`.

    A choice is made inside the best `topk_groups` of `groups`, a group being as good as the sum of its best
    `scored_of_group` experts. `balanced` adds a bias to the scores that decides who is chosen and never what
    a choice weighs; `router_bias` is one of the logits. With `weighs_inputs` a choice's weight scales what
    its expert reads, not what it gives. With `latent` the experts work between two products into that width
    and out of it. `shared_gate` weighs the shared expert by the sigmoid of a score of the token.
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
    gated: bool = True
    shared: FeedForwardSpec | None = None
    shared_gate: bool = False
    latent: int | None = None
    weighs_inputs: bool = False


Mixer = AttentionSpec | LatentAttentionSpec | Mamba2Spec | DeltaNetSpec
FeedForward = FeedForwardSpec | MixtureSpec


class Arrangement(StrEnum):
    """How mixer, feed-forward and norms of a layer stand to the residual stream."""

    SEQUENTIAL = "sequential"  # a norm before each
    PARALLEL = "parallel"  # both read one norm, and their sum joins the stream
    SANDWICH = "sandwich"  # a norm before and after each
    POST_NORM = "post_norm"  # a norm after each sum, which is the stream


@dataclass(frozen=True)
class LayerSpec:
    """A layer: what mixes tokens, then what works on each token; `name` is that of its block in a graph.

    A layer may have one of the two alone.
    """

    name: str
    mixer: Mixer | None
    feed_forward: FeedForward | None
    arrangement: Arrangement = Arrangement.SEQUENTIAL

    def __post_init__(self) -> None:
        both = self.mixer is not None and self.feed_forward is not None
        alone = self.mixer is not None or self.feed_forward is not None
        assert both or (alone and self.arrangement is Arrangement.SEQUENTIAL), "a layer must have its parts"

    @property
    def rope(self) -> RopeSpec | None:
        """The rotary positions of its mixer; a recurrent mixer needs none."""
        return self.mixer.rope if isinstance(self.mixer, AttentionSpec | LatentAttentionSpec) else None


class Norm(StrEnum):
    """How the residual stream is normalised."""

    RMS = "rms"
    LAYER = "layer"  # with a bias


@dataclass(frozen=True)
class LearnedPositions:
    """A table of `rows` position embeddings; position p is in row p + `offset`."""

    rows: int
    offset: int = 0


@dataclass(frozen=True)
class Blueprint:
    """A whole decoder, embedding to head, and its multi-token prediction modules.

    Embeddings are multiplied by `embedding_scale`, a row of `learned_positions` is added, and with
    `embedding_norm` the sum is normalised before it becomes the residual stream.
    """

    vocab_size: int
    hidden_size: int
    layers: tuple[LayerSpec, ...]
    norm_eps: float
    max_positions: int
    tied_embeddings: bool = False
    mtp_layers: tuple[LayerSpec, ...] = ()
    norm: Norm = Norm.RMS
    embedding_scale: float = 1.0
    embedding_norm: bool = False
    learned_positions: LearnedPositions | None = None
    head_bias: bool = False

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
        return tuple(dict.fromkeys(layer.rope for layer in layers if layer.rope is not None))

    @property
    def temperatures(self) -> tuple[TemperatureSpec, ...]:
        """The distinct ways in which queries grow with their position."""
        mixers = (layer.mixer for layer in self.layers)
        found = (m.temperature for m in mixers if isinstance(m, AttentionSpec))
        return tuple(dict.fromkeys(t for t in found if t is not None))

    @property
    def n_experts(self) -> int:
        """Routed experts of a mixture layer; 0 for a dense model."""
        return max((m.experts for m in self._feed_forwards() if isinstance(m, MixtureSpec)), default=0)

    def tensor_parallel_widths(self) -> dict[str, int]:
        """What tensor parallelism must divide, by name."""
        widths = {"vocab_size": self.vocab_size} if self.vocab_size else {}
        for layer in self.layers:
            widths |= _mixer_widths(layer.mixer)
            part = layer.feed_forward
            if isinstance(part, FeedForwardSpec):
                widths["intermediate_size"] = part.inter
            elif part is not None and part.shared is not None:
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
        return (layer.feed_forward for layer in self.layers if layer.feed_forward is not None)


def _mixer_widths(mixer: Mixer | None) -> dict[str, int]:
    """Heads of a mixer that tensor parallelism must divide, by name."""
    match mixer:
        case None:
            return {}
        case Mamba2Spec():
            return {"mamba_num_heads": mixer.heads, "n_groups": mixer.groups}
        case DeltaNetSpec():
            return {"linear_num_key_heads": mixer.key_heads, "linear_num_value_heads": mixer.value_heads}
        case _:
            return {"num_attention_heads": mixer.heads}


def _without_indexer(layer: LayerSpec) -> LayerSpec:
    if not isinstance(layer.mixer, LatentAttentionSpec):
        return layer
    return replace(layer, mixer=replace(layer.mixer, indexer=None))


@dataclass(frozen=True)
class TokenInput:
    """Embeddings of `vocab_size` tokens, of `types` of segments and of `positions`, summed and normalised."""

    vocab_size: int
    positions: int
    types: int


@dataclass(frozen=True)
class PatchInput:
    """Square patches of `channels` x `size` x `size` pixels, `patches` an image, after one class token.

    Their projections and the class token get learned positions; a token's row is its place in the sequence.
    """

    patches: int
    channels: int
    size: int

    @property
    def pixels(self) -> int:
        """Numbers in a patch."""
        return self.channels * self.size**2


class Reads(StrEnum):
    """Which tokens the head of an encoder reads."""

    ALL = "all"
    CLASS_TOKEN = "class_token"  # noqa: S105 - not a password
    PATCHES = "patches"  # all but the class token


@dataclass(frozen=True, kw_only=True)
class EncoderBlueprint(Blueprint):
    """An encoder: every token sees all others, in one pass without a cache.

    `outputs` is the width of its head. An encoder of images has no vocabulary.
    """

    source: TokenInput | PatchInput
    outputs: int
    reads: Reads = Reads.ALL
