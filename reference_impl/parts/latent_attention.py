"""Multi-head latent attention, naive and absorbed, over one latent cache a layer.

Dimensions in names: B sequences, S new tokens, T tokens in the cache with the new ones, D hidden, H heads of
this rank, C content width of a head (`qk_nope_head_dim`), P position width (`qk_rope_head_dim`), V value
width, L latent width (`kv_lora_rank`), M = L + P, Q query latent width (`q_lora_rank`).

References: DeepSeek-V2 report (arXiv 2405.04434) section 2.1 and appendix C.
"""

from torch import Tensor, nn

from model_graphs.blueprint import LatentAttentionSpec
from model_graphs.graph import Shard
from reference_impl import kernels
from reference_impl.layers import KvAppend, Layer, Linear, RMSNorm, Rope
from reference_impl.parts.rotary import Tables

COMPONENT = "attention"
LATENT_NORM_EPS = 1e-6  # DeepSeek's code leaves it at the class default, whatever the config says


class AbsorbQuery(Layer):
    """Queries into latent space by the keys' half of kv_b."""

    def forward(self, q_BSHC: Tensor, w_kv_b: Tensor, v_dim: int) -> Tensor:
        """Latent queries [B, S, H, L]."""
        return kernels.mla_absorb_q(q_BSHC, w_kv_b, v_dim)


class AbsorbOutput(Layer):
    """Latent outputs into values by the values' half of kv_b."""

    def forward(self, o_BSHL: Tensor, w_kv_b: Tensor, v_dim: int) -> Tensor:
        """Values [B, S, H, V]."""
        return kernels.mla_absorb_o(o_BSHL, w_kv_b, v_dim)


class LatentAttention(Layer):
    """Attention of latent queries to the latent cache."""

    def forward(self, q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, scale: float) -> Tensor:
        """Latent outputs [B, S, H, L]."""
        return kernels.mla_attention(q_BSHL, q_BSHP, cache_BTM, scale)


class NaiveAttention(Layer):
    """Attention of every head to its own keys and values."""

    def forward(
        self, q_BSHC: Tensor, q_BSHP: Tensor, k_BTHC: Tensor, k_BTP: Tensor, v_BTHV: Tensor, scale: float
    ) -> Tensor:
        """Outputs [B, S, H, V]."""
        return kernels.attention(q_BSHC, q_BSHP, k_BTHC, k_BTP, v_BTHV, scale)


class MLA(nn.Module):
    """Queries and key-values through low-rank latents; only the latent of key-values is cached.

    Without a rank for queries they are made from the layer's input in one product.
    """

    def __init__(self, spec: LatentAttentionSpec, D: int, table: int) -> None:
        super().__init__()
        H, Q, L = spec.heads, spec.q_rank, spec.kv_rank
        C, P, V = spec.content, spec.position, spec.value
        self.q_rank = Q
        self.latent_widths = (L, P) if Q is None else (Q, L, P)  # of the first product
        self.cached_widths = (L, P)
        self.query_widths = (C, P)
        self.kv_widths = (C, V)
        self.scale = spec.scale
        self.table = table

        if Q is None:
            self.q_proj = Linear(D, H * (C + P), COMPONENT, Shard.COLUMN)
            self.kv_a_proj = Linear(D, L + P, COMPONENT)
        else:
            self.q_kv_a_proj = Linear(D, Q + L + P, COMPONENT)
            self.q_a_layernorm = RMSNorm(Q, LATENT_NORM_EPS)
            self.q_b_proj = Linear(Q, H * (C + P), COMPONENT, Shard.COLUMN)
        self.kv_a_layernorm = RMSNorm(L, LATENT_NORM_EPS)
        self.rope_q = Rope(COMPONENT, Shard.HEAD)
        self.rope_k = Rope(COMPONENT)
        self.kv_append = KvAppend(COMPONENT)
        self.kv_b_proj = Linear(L, H * (C + V), COMPONENT, Shard.COLUMN)
        self.absorb_q = AbsorbQuery(COMPONENT, Shard.HEAD)
        self.latent_attention = LatentAttention(COMPONENT, Shard.HEAD)
        self.absorb_o = AbsorbOutput(COMPONENT, Shard.HEAD)
        self.naive_attention = NaiveAttention(COMPONENT, Shard.HEAD)
        self.o_proj = Linear(H * V, D, COMPONENT, Shard.ROW)

    @property
    def cache_widths(self) -> tuple[int, ...]:
        """Shape of a token's rows in the cache of this rank."""
        return (sum(self.cached_widths),)

    def forward(
        self, x_BSD: Tensor, tables: Tables, past_BTM: Tensor | None, absorbed: bool
    ) -> tuple[Tensor, Tensor]:
        """Attention output [B, S, D] and the cache [B, T, M] with the new tokens in it."""
        _, (q_BSHC, q_BSHP), (latent_BSL, k_BSP) = self.project(x_BSD, tables)
        cache_BTM = self.kv_append(past_BTM, latent_BSL, k_BSP)
        if absorbed:
            o_BSHV = self.absorbed(q_BSHC, q_BSHP, cache_BTM)
        elif past_BTM is None:
            o_BSHV = self.naive(q_BSHC, q_BSHP, latent_BSL, k_BSP)
        else:
            o_BSHV = self.naive(q_BSHC, q_BSHP, *cache_BTM.split(self.cached_widths, -1))
        return self.o_proj(o_BSHV.flatten(2)), cache_BTM

    def project(
        self, x_BSD: Tensor, tables: Tables
    ) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """What queries are made of, queries of every head, and latents with their keys, all rotated."""
        rotary = tables[self.table]
        if self.q_rank is None:
            q_BSQ = x_BSD
            latent_BSL, k_BSP = self.kv_a_proj(x_BSD).split(self.latent_widths, -1)
            q_BSX = self.q_proj(x_BSD)
        else:
            q_BSQ, latent_BSL, k_BSP = self.q_kv_a_proj(x_BSD).split(self.latent_widths, -1)
            q_BSQ = self.q_a_layernorm(q_BSQ)
            q_BSX = self.q_b_proj(q_BSQ)
        q_BSHC, q_BSHP = q_BSX.unflatten(-1, (-1, sum(self.query_widths))).split(self.query_widths, -1)
        q_BSHP = self.rope_q(q_BSHP, *rotary)
        latent_BSL = self.kv_a_layernorm(latent_BSL)
        k_BSP = self.rope_k(k_BSP.unsqueeze(2), *rotary).squeeze(2)
        return q_BSQ, (q_BSHC, q_BSHP), (latent_BSL, k_BSP)

    def naive(self, q_BSHC: Tensor, q_BSHP: Tensor, latent_BTL: Tensor, k_BTP: Tensor) -> Tensor:
        """Keys and values of every head are made from the latents."""
        kv_BTHX = self.kv_b_proj(latent_BTL).unflatten(-1, (-1, sum(self.kv_widths)))
        k_BTHC, v_BTHV = kv_BTHX.split(self.kv_widths, -1)
        return self.naive_attention(q_BSHC, q_BSHP, k_BTHC, k_BTP, v_BTHV, self.scale)

    def absorbed(self, q_BSHC: Tensor, q_BSHP: Tensor, cache_BTM: Tensor) -> Tensor:
        """The same function, kv_b moved to queries and outputs, so that heads share the latent cache."""
        w_kv_b, v_dim = self.kv_b_proj.weight, self.kv_widths[1]
        q_BSHL = self.absorb_q(q_BSHC, w_kv_b, v_dim)
        o_BSHL = self.latent_attention(q_BSHL, q_BSHP, cache_BTM, self.scale)
        return self.absorb_o(o_BSHL, w_kv_b, v_dim)
