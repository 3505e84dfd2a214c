"""DeepSeek V3, read downwards: model, decoder layer, multi-token prediction.

Dimensions in names: B sequences, S new tokens, T tokens in the cache with the new ones, D hidden, W
vocabulary, M width of a cached token. The residual stream runs beside the normalised one, because engines
fuse each residual add with the norm that follows it. A layer therefore takes a normalised input and closes
with the norm that the next one (or the head) reads, and all layers of a kind are alike. `block` says to which
block of the graph a module's operators belong. Attention lives in `attention`, experts in `feed_forward`,
positions in `rotary`; layouts over several ranks are applied from outside by `parallel`.

References: DeepSeek-V3 report (arXiv 2412.19437).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_graphs.configs import DeepSeekV3Config
from model_graphs.graph import Shard
from reference_impl.deepseek_v3.attention import MLA
from reference_impl.deepseek_v3.feed_forward import MLP, MoE
from reference_impl.deepseek_v3.rotary import Rotary
from reference_impl.layers import AddRMSNorm, Concat, Embedding, Linear, RMSNorm


class DecoderLayer(nn.Module):
    """Attention, then a dense MLP or a mixture of experts."""

    def __init__(self, config: DeepSeekV3Config, dense: bool) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = MLA(config)
        self.post_attention_norm = AddRMSNorm(D, eps)
        self.mlp = MLP(D, config.intermediate_size, "mlp") if dense else MoE(config)
        self.closing_norm = AddRMSNorm(D, eps)

    def forward(
        self,
        x_BSD: Tensor,
        residual_BSD: Tensor,
        rotary: tuple[Tensor, Tensor],
        past_BTM: Tensor | None,
        absorbed: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The stream normalised for what follows, the stream, and the layer's cache."""
        attended_BSD, cache_BTM = self.self_attn(x_BSD, rotary, past_BTM, absorbed)
        x_BSD, residual_BSD = self.post_attention_norm(attended_BSD, residual_BSD)
        x_BSD, residual_BSD = self.closing_norm(self.mlp(x_BSD), residual_BSD)
        return x_BSD, residual_BSD, cache_BTM


class MTP(nn.Module):
    """Multi-token prediction: a layer that sees a token's hidden state and the embedding of the next token.

    The hidden state is the one after the final norm; embedding and head are the main model's.
    """

    block = ("mtp_layer", 0)

    def __init__(self, config: DeepSeekV3Config) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = RMSNorm(D, eps, "mtp")
        self.hnorm = RMSNorm(D, eps, "mtp")
        self.concat = Concat("mtp")
        self.eh_proj = Linear(2 * D, D, "mtp")
        self.opening_norm = RMSNorm(D, eps)
        self.layer = DecoderLayer(config, dense=False)

    def forward(
        self,
        embedding_BSD: Tensor,
        hidden_BSD: Tensor,
        rotary: tuple[Tensor, Tensor],
        past_BTM: Tensor | None,
        absorbed: bool,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states that predict one token further [B, S, D], and the module's cache."""
        x_BSD = self.eh_proj(self.concat(self.enorm(embedding_BSD), self.hnorm(hidden_BSD)))
        x_BSD, _, cache_BTM = self.layer(self.opening_norm(x_BSD), x_BSD, rotary, past_BTM, absorbed)
        return x_BSD, cache_BTM


class DeepSeekV3(nn.Module):
    """The main model and its multi-token prediction modules."""

    def __init__(self, config: DeepSeekV3Config) -> None:
        super().__init__()
        D, W = config.hidden_size, config.vocab_size
        self.rotary = Rotary(config)
        self.embed_tokens = Embedding(W, D)
        self.opening_norm = RMSNorm(D, config.rms_norm_eps)
        self.layers = nn.ModuleList(_layer(config, i) for i in range(config.num_hidden_layers))
        self.lm_head = Linear(D, W, "head", Shard.VOCAB)
        self.mtp = nn.ModuleList(MTP(config) for _ in range(config.num_nextn_predict_layers))
        self.embed_tokens.block = self.opening_norm.block = ("embedding", 0)
        self.lm_head.block = ("head", 0)

    def forward(
        self,
        ids_BS: Tensor,
        positions_BS: Tensor,
        past: Sequence[Tensor] | None = None,
        absorbed: bool = False,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [B, S, W], hidden states after the final norm [B, S, D], and a cache [B, T, M] a layer."""
        residual_BSD = self.embed_tokens(ids_BS)
        rotary = self.rotary(positions_BS, residual_BSD.dtype)
        x_BSD = self.opening_norm(residual_BSD)
        caches = []
        for i, layer in enumerate(self.layers):
            past_BTM = past[i] if past is not None else None
            x_BSD, residual_BSD, cache_BTM = layer(x_BSD, residual_BSD, rotary, past_BTM, absorbed)
            caches.append(cache_BTM)
        return self.lm_head(x_BSD), x_BSD, caches


class MTPStep(nn.Module):
    """One pass of a multi-token prediction module with the embedding and head that it shares."""

    def __init__(self, model: DeepSeekV3, depth: int = 0) -> None:
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
        past_BTM: Tensor | None = None,
        absorbed: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the token after next, hidden states and cache.

        Token t's hidden state meets the id of token t + 1, at the position of token t + 1.
        """
        embedding_BSD = self.embed_tokens(next_ids_BS)
        rotary = self.rotary(positions_BS, embedding_BSD.dtype)
        x_BSD, cache_BTM = self.mtp(embedding_BSD, hidden_BSD, rotary, past_BTM, absorbed)
        return self.lm_head(x_BSD), x_BSD, cache_BTM


def _layer(config: DeepSeekV3Config, index: int) -> DecoderLayer:
    """The layer at this depth; the first layers are dense."""
    dense = index < config.first_k_dense_replace
    layer = DecoderLayer(config, dense)
    layer.block = ("dense_layer" if dense else "moe_layer", index)
    return layer


def build_model(
    config: DeepSeekV3Config, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> DeepSeekV3:
    """The model with uninitialised weights; on device `meta` it holds none."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return DeepSeekV3(config).eval()
    finally:
        torch.set_default_dtype(default)
