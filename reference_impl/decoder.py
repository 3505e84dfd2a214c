"""A decoder, read downwards: model, layer, multi-token prediction. What it is made of, its blueprint says.

Dimensions in names: B sequences, S new tokens, T tokens in the cache with the new ones, D hidden, W
vocabulary. The residual stream runs beside the normalised one, because engines fuse each residual add with
the norm that follows it. A layer therefore takes a normalised input and closes with the norm that the next
one (or the head) reads, and all layers of a kind are alike. `block` says to which block of the graph a
module's operators belong. The parts live in `parts`; layouts over several ranks are applied from outside by
`parallel`.

References: for multi-token prediction, DeepSeek-V3 report (arXiv 2412.19437) section 2.2.
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from model_graphs.blueprint import AttentionSpec, Blueprint, FeedForwardSpec, LayerSpec
from model_graphs.graph import Shard
from reference_impl.layers import AddRMSNorm, Concat, Embedding, Linear, RMSNorm
from reference_impl.parts.attention import GroupedAttention
from reference_impl.parts.feed_forward import MLP, MoE
from reference_impl.parts.latent_attention import MLA
from reference_impl.parts.rotary import Rotary, Tables
from reference_impl.parts.sparse_attention import SparseMLA

Mixer = GroupedAttention | MLA
Cache: TypeAlias = Tensor | tuple[Tensor, ...]  # of a layer: [B, T, ..], a tensor for each group


def _mixer(layer: LayerSpec, blueprint: Blueprint) -> Mixer:
    spec = layer.mixer
    table = blueprint.ropes.index(spec.rope) if spec.rope is not None else -1
    if isinstance(spec, AttentionSpec):
        return GroupedAttention(spec, blueprint.hidden_size, blueprint.norm_eps, table)
    kind = MLA if spec.indexer is None else SparseMLA
    return kind(spec, blueprint.hidden_size, table)


def _feed_forward(layer: LayerSpec, blueprint: Blueprint) -> MLP | MoE:
    spec, width = layer.feed_forward, blueprint.hidden_size
    return MLP(spec, width, "mlp") if isinstance(spec, FeedForwardSpec) else MoE(spec, width)


class DecoderLayer(nn.Module):
    """Attention, then a dense MLP or a mixture of experts."""

    def __init__(self, layer: LayerSpec, blueprint: Blueprint) -> None:
        super().__init__()
        width, eps = blueprint.hidden_size, blueprint.norm_eps
        self.self_attn = _mixer(layer, blueprint)
        self.post_attention_norm = AddRMSNorm(width, eps)
        self.mlp = _feed_forward(layer, blueprint)
        self.closing_norm = AddRMSNorm(width, eps)

    def forward(
        self, x_BSD: Tensor, residual_BSD: Tensor, tables: Tables, past: Cache | None, absorbed: bool
    ) -> tuple[Tensor, Tensor, Cache]:
        """The stream normalised for what follows, the stream, and the layer's cache."""
        attended_BSD, cache = self.self_attn(x_BSD, tables, past, absorbed)
        x_BSD, residual_BSD = self.post_attention_norm(attended_BSD, residual_BSD)
        x_BSD, residual_BSD = self.closing_norm(self.mlp(x_BSD), residual_BSD)
        return x_BSD, residual_BSD, cache


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
        self.rotary = Rotary(blueprint.ropes)
        self.embed_tokens = Embedding(rows, width)
        self.opening_norm = RMSNorm(width, blueprint.norm_eps)
        self.layers = nn.ModuleList(DecoderLayer(layer, blueprint) for layer in blueprint.layers)
        self.lm_head = Linear(width, rows, "head", Shard.VOCAB, tied=blueprint.tied_embeddings)
        if blueprint.tied_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.mtp = nn.ModuleList(MTP(layer, blueprint) for layer in blueprint.mtp_layers)
        for index, (spec, layer) in enumerate(zip(blueprint.layers, self.layers, strict=True)):
            layer.block = (spec.name, index)
        self.embed_tokens.block = self.opening_norm.block = ("embedding", 0)
        self.lm_head.block = ("head", 0)

    def forward(
        self,
        ids_BS: Tensor,
        positions_BS: Tensor,
        past: Sequence[Cache] | None = None,
        absorbed: bool = False,
    ) -> tuple[Tensor, Tensor, list[Cache]]:
        """Logits [B, S, W], hidden states after the final norm [B, S, D], and a cache a layer."""
        residual_BSD = self.embed_tokens(ids_BS)
        tables = self.rotary(positions_BS, residual_BSD.dtype)
        x_BSD = self.opening_norm(residual_BSD)
        caches = []
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


def build_model(blueprint: Blueprint, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """The model with uninitialised weights; on device `meta` it holds none."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Decoder(blueprint).eval()
    finally:
        torch.set_default_dtype(default)
