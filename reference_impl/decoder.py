"""A decoder, read downwards: model, layer, multi-token prediction. What it is made of, its blueprint says.

Dimensions in names: B sequences, S new tokens, T tokens in the cache with the new ones, D hidden, W
vocabulary. The residual stream runs beside the normalised one, because engines fuse each residual add with
the norm that follows it. A layer therefore takes a normalised input and closes with the norm that the next
one (or the head) reads, and all layers of a kind are alike. `block` says to which block of the graph a
module's operators belong. The parts live in `parts`; layouts over several ranks are applied from outside by
`parallel`.

References: for multi-token prediction, DeepSeek-V3 report (arXiv 2412.19437) section 2.2.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from hardware_specs.records.errors import InputError, Problem
from model_graphs.blueprint import (
    Arrangement,
    AttentionSpec,
    Blueprint,
    DeltaNetSpec,
    EncoderBlueprint,
    FeedForwardSpec,
    LatentAttentionSpec,
    LayerSpec,
    Mamba2Spec,
    Norm,
)
from model_graphs.graph import Shard
from reference_impl.layers import (
    Add,
    AddLayerNorm,
    AddRMSNorm,
    Concat,
    Embedding,
    LayerNorm,
    Linear,
    Lookup,
    RMSNorm,
)
from reference_impl.parts.attention import GroupedAttention
from reference_impl.parts.feed_forward import MLP, MoE
from reference_impl.parts.latent_attention import MLA
from reference_impl.parts.recurrent import GatedDeltaNet, Mamba2
from reference_impl.parts.rotary import Rotary, Tables
from reference_impl.parts.sparse_attention import SparseMLA

#: rows of a layer's tokens, a tensor for each group; the states of a recurrent one; or nothing
Cache: TypeAlias = Tensor | tuple[Tensor, ...]


def _mixer(layer: LayerSpec, blueprint: Blueprint) -> nn.Module:
    spec, width, eps = layer.mixer, blueprint.hidden_size, blueprint.norm_eps
    table = blueprint.ropes.index(layer.rope) if layer.rope is not None else -1
    match spec:
        case AttentionSpec():
            factor = blueprint.temperatures.index(spec.temperature) if spec.temperature is not None else 0
            return GroupedAttention(spec, width, eps, table, len(blueprint.ropes) + factor)
        case Mamba2Spec():
            return Mamba2(spec, width, eps)
        case DeltaNetSpec():
            return GatedDeltaNet(spec, width, eps)
        case LatentAttentionSpec():
            return (MLA if spec.indexer is None else SparseMLA)(spec, width, table)
    raise AssertionError("a layer without a mixer has nothing to make")


def feed_forward_of(layer: LayerSpec, blueprint: Blueprint) -> MLP | MoE:
    """The part of a layer that works on each token."""
    spec, width = layer.feed_forward, blueprint.hidden_size
    assert spec is not None, "a layer without a feed-forward part has nothing to make"
    return MLP(spec, width, "mlp") if isinstance(spec, FeedForwardSpec) else MoE(spec, width)


def _norm(blueprint: Blueprint, component: str = "norm") -> RMSNorm | LayerNorm:
    kind = RMSNorm if blueprint.norm is Norm.RMS else LayerNorm
    return kind(blueprint.hidden_size, blueprint.norm_eps, component)


def _add_norm(blueprint: Blueprint) -> AddRMSNorm | AddLayerNorm:
    kind = AddRMSNorm if blueprint.norm is Norm.RMS else AddLayerNorm
    return kind(blueprint.hidden_size, blueprint.norm_eps)


class DecoderLayer(nn.Module):
    """What mixes tokens, then what works on each token, or one of the two; a norm closes either."""

    def __init__(self, layer: LayerSpec, blueprint: Blueprint) -> None:
        super().__init__()
        both = layer.mixer is not None and layer.feed_forward is not None
        self.self_attn = _mixer(layer, blueprint) if layer.mixer is not None else None
        self.post_attention_norm = _add_norm(blueprint) if both else None
        self.mlp = feed_forward_of(layer, blueprint) if layer.feed_forward is not None else None
        self.closing_norm = _add_norm(blueprint)

    def forward(
        self, x_BSD: Tensor, residual_BSD: Tensor, tables: Tables, past: Cache | None, absorbed: bool
    ) -> tuple[Tensor, Tensor, Cache]:
        """The stream normalised for what follows, the stream, and the layer's cache."""
        cache: Cache = ()
        if self.self_attn is not None:
            x_BSD, cache = self.self_attn(x_BSD, tables, past, absorbed)
        if self.post_attention_norm is not None:
            x_BSD, residual_BSD = self.post_attention_norm(x_BSD, residual_BSD)
        if self.mlp is not None:
            x_BSD = self.mlp(x_BSD)
        x_BSD, residual_BSD = self.closing_norm(x_BSD, residual_BSD)
        return x_BSD, residual_BSD, cache


class SandwichLayer(DecoderLayer):
    """A layer that also normalises what attention and MLP give, before it joins the stream."""

    def __init__(self, layer: LayerSpec, blueprint: Blueprint) -> None:
        super().__init__(layer, blueprint)
        self.attention_output_norm = _norm(blueprint)
        self.mlp_output_norm = _norm(blueprint)

    def forward(
        self, x_BSD: Tensor, residual_BSD: Tensor, tables: Tables, past: Cache | None, absorbed: bool
    ) -> tuple[Tensor, Tensor, Cache]:
        """The stream normalised for what follows, the stream, and the layer's cache."""
        assert self.self_attn is not None and self.mlp is not None and self.post_attention_norm is not None
        attended_BSD, cache = self.self_attn(x_BSD, tables, past, absorbed)
        x_BSD, residual_BSD = self.post_attention_norm(self.attention_output_norm(attended_BSD), residual_BSD)
        x_BSD, residual_BSD = self.closing_norm(self.mlp_output_norm(self.mlp(x_BSD)), residual_BSD)
        return x_BSD, residual_BSD, cache


class ParallelLayer(nn.Module):
    """A layer whose attention and MLP read the same input; their sum joins the stream."""

    def __init__(self, layer: LayerSpec, blueprint: Blueprint) -> None:
        super().__init__()
        self.self_attn = _mixer(layer, blueprint)
        self.mlp = feed_forward_of(layer, blueprint)
        self.add = Add("mlp")
        self.closing_norm = _add_norm(blueprint)

    def forward(
        self, x_BSD: Tensor, residual_BSD: Tensor, tables: Tables, past: Cache | None, absorbed: bool
    ) -> tuple[Tensor, Tensor, Cache]:
        """The stream normalised for what follows, the stream, and the layer's cache."""
        attended_BSD, cache = self.self_attn(x_BSD, tables, past, absorbed)
        x_BSD, residual_BSD = self.closing_norm(self.add(attended_BSD, self.mlp(x_BSD)), residual_BSD)
        return x_BSD, residual_BSD, cache


AnyLayer = DecoderLayer | ParallelLayer

_LAYERS: Mapping[Arrangement, type[AnyLayer]] = {
    Arrangement.SEQUENTIAL: DecoderLayer,
    Arrangement.PARALLEL: ParallelLayer,
    Arrangement.SANDWICH: SandwichLayer,
}


class MTP(nn.Module):
    """Multi-token prediction: a layer that sees a token's hidden state and the embedding of the next token.

    The hidden state is the one after the final norm; embedding and head are the main model's.
    """

    block = ("mtp_layer", 0)

    def __init__(self, layer: LayerSpec, blueprint: Blueprint) -> None:
        super().__init__()
        width, eps = blueprint.hidden_size, blueprint.norm_eps
        self.enorm = RMSNorm(width, eps, "mtp")
        self.hnorm = RMSNorm(width, eps, "mtp")
        self.concat = Concat("mtp")
        self.eh_proj = Linear(2 * width, width, "mtp")
        self.opening_norm = RMSNorm(width, eps)
        self.layer = DecoderLayer(layer, blueprint)

    def forward(
        self,
        embedding_BSD: Tensor,
        hidden_BSD: Tensor,
        tables: Tables,
        past: Cache | None,
        absorbed: bool,
    ) -> tuple[Tensor, Cache]:
        """Hidden states that predict one token further [B, S, D], and the module's cache."""
        x_BSD = self.eh_proj(self.concat(self.enorm(embedding_BSD), self.hnorm(hidden_BSD)))
        x_BSD, _, cache = self.layer(self.opening_norm(x_BSD), x_BSD, tables, past, absorbed)
        return x_BSD, cache


class Decoder(nn.Module):
    """The main model and its multi-token prediction modules."""

    def __init__(self, blueprint: Blueprint) -> None:
        super().__init__()
        width, rows = blueprint.hidden_size, blueprint.vocab_size
        self.blueprint = blueprint
        self.rotary = Rotary(blueprint.ropes, blueprint.temperatures)
        self.embed_tokens = Embedding(rows, width, blueprint.embedding_scale)
        learned = blueprint.learned_positions
        self.embed_positions = Lookup(learned.rows, width, learned.offset) if learned else None
        self.add_positions = Add("embedding") if learned else None
        self.embed_norm = _norm(blueprint) if blueprint.embedding_norm else None
        self.opening_norm = _norm(blueprint)
        self.layers = nn.ModuleList(_LAYERS[spec.arrangement](spec, blueprint) for spec in blueprint.layers)
        tied = blueprint.tied_embeddings
        self.lm_head = Linear(width, rows, "head", Shard.VOCAB, bias=blueprint.head_bias, tied=tied)
        if tied:
            self.lm_head.weight = self.embed_tokens.weight
        self.mtp = nn.ModuleList(MTP(layer, blueprint) for layer in blueprint.mtp_layers)
        self._name_blocks()

    def _name_blocks(self) -> None:
        opening = (self.embed_tokens, self.embed_positions, self.add_positions, self.embed_norm)
        for module in (*opening, self.opening_norm):
            if module is not None:
                module.block = ("embedding", 0)
        for index, (spec, layer) in enumerate(zip(self.blueprint.layers, self.layers, strict=True)):
            layer.block = (spec.name, index)
        self.lm_head.block = ("head", 0)

    def forward(
        self,
        ids_BS: Tensor,
        positions_BS: Tensor,
        past: Sequence[Cache] | None = None,
        absorbed: bool = False,
    ) -> tuple[Tensor, Tensor, list[Cache]]:
        """Logits [B, S, W], hidden states after the final norm [B, S, D], and each layer's cache."""
        return self.run(self.embed(ids_BS, positions_BS), positions_BS, past, absorbed)

    def embed(self, ids_BS: Tensor, positions_BS: Tensor) -> Tensor:
        """What the residual stream begins with [B, S, D]."""
        x_BSD = self.embed_tokens(ids_BS)
        if self.embed_positions is not None and self.add_positions is not None:
            x_BSD = self.add_positions(x_BSD, self.embed_positions(positions_BS))
        return x_BSD if self.embed_norm is None else self.embed_norm(x_BSD)

    def run(
        self,
        residual_BSD: Tensor,
        positions_BS: Tensor,
        past: Sequence[Cache] | None = None,
        absorbed: bool = False,
    ) -> tuple[Tensor, Tensor, list[Cache]]:
        """The forward pass from embeddings, which may be those of an image."""
        tables = self.rotary(positions_BS, residual_BSD.dtype)
        x_BSD = self.opening_norm(residual_BSD)
        caches: list[Cache] = []
        for i, layer in enumerate(self.layers):
            held = past[i] if past is not None else None
            x_BSD, residual_BSD, cache = layer(x_BSD, residual_BSD, tables, held, absorbed)
            caches.append(cache)
        return self.lm_head(x_BSD), x_BSD, caches


class MTPStep(nn.Module):
    """One pass of a multi-token prediction module with the embedding and head that it shares."""

    def __init__(self, model: Decoder, depth: int = 0) -> None:
        super().__init__()
        self.rotary = model.rotary
        self.embed_tokens = model.embed_tokens
        self.mtp = model.mtp[depth]
        self.lm_head = model.lm_head

    def forward(
        self,
        next_ids_BS: Tensor,
        hidden_BSD: Tensor,
        positions_BS: Tensor,
        past: Cache | None = None,
        absorbed: bool = False,
    ) -> tuple[Tensor, Tensor, Cache]:
        """Logits of the token after next, hidden states and cache.

        Token t's hidden state meets the id of token t + 1, at the position of token t + 1.
        """
        embedding_BSD = self.embed_tokens(next_ids_BS)
        tables = self.rotary(positions_BS, embedding_BSD.dtype)
        x_BSD, cache = self.mtp(embedding_BSD, hidden_BSD, tables, past, absorbed)
        return self.lm_head(x_BSD), x_BSD, cache


@contextmanager
def of_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What is built inside has weights of this type."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def build_model(blueprint: Blueprint, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """The model with uninitialised weights; on device `meta` it holds none.

    Raises:
        InputError: the blueprint is that of an encoder.
    """
    if isinstance(blueprint, EncoderBlueprint):
        requirement = "architecture must be that of a decoder: an encoder generates no tokens"
        raise InputError(Problem(requirement, f"{len(blueprint.layers)} layers of an encoder", path="model"))
    with of_dtype(dtype), torch.device(device):
        return Decoder(blueprint).eval()
