"""Grouped attention: query heads that share heads of keys and values, over one cache a layer.

Dimensions in names: B sequences, S new tokens, T tokens in the cache with the new ones, D hidden, H query
heads of this rank, K heads of keys and values of this rank, C width of a head, M = 2 C of a cached pair.

References: GQA (arXiv 2305.13245).
"""

import math

import torch
from torch import Tensor, nn

from model_graphs.blueprint import AttentionSpec, QueryKeyNorm
from model_graphs.graph import Shard
from reference_impl import kernels
from reference_impl.layers import (
    HeadsRMSNorm,
    KvAppend,
    Layer,
    Linear,
    PlainRMSNorm,
    QKVLinear,
    RMSNorm,
    SigmoidMul,
    parameter,
)
from reference_impl.parts.rotary import Tables


class RopeQK(Layer):
    """Rotation of queries and keys in one kernel."""

    def __init__(self, *, neighbours: bool, component: str = "attention", shard: Shard = Shard.HEAD) -> None:
        super().__init__(component, shard)
        self.neighbours = neighbours

    def forward(self, q_BSHC: Tensor, k_BSKC: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys rotated."""
        return kernels.rope_qk(q_BSHC, k_BSKC, cos, sin, self.neighbours)


def alibi_slopes(heads: int) -> list[float]:
    """The slope of each head: powers of 2^(-8 / n) for n heads, of which the odd ones between fill up.

    References: ALiBi (arXiv 2108.12409) section 3, and its code for counts that are no power of two.
    """
    whole = 2 ** math.floor(math.log2(heads))
    base, finer = 2 ** (-8 / whole), 2 ** (-4 / whole)
    first = [base**power for power in range(1, whole + 1)]
    return first + [finer**power for power in range(1, 2 * (heads - whole), 2)]


class AttentionCore(Layer):
    """Scores, softmax and values over the cache."""

    def __init__(self, spec: AttentionSpec) -> None:
        super().__init__("attention", Shard.HEAD)
        self.scale = spec.scale
        self.window = spec.window or 0
        self.chunked = spec.chunked
        self.sinks = parameter(spec.heads) if spec.sinks else None
        slopes = torch.tensor(alibi_slopes(spec.heads), dtype=torch.float32) if spec.alibi else None
        self.slopes = nn.Buffer(slopes, persistent=False) if slopes is not None else None

    def forward(self, q_BSHC: Tensor, cache_BTKM: Tensor) -> Tensor:
        """Outputs [B, S, H, C]."""
        return kernels.grouped_attention(
            q_BSHC, cache_BTKM, self.scale, self.window, self.sinks, self.slopes, self.chunked
        )


class QueryTemperature(Layer):
    """Queries grow with their position."""

    def forward(self, q_BSHC: Tensor, factor_BS: Tensor) -> Tensor:
        """The queries times the factors of their tokens."""
        return kernels.scale_queries(q_BSHC, factor_BS)


class GroupedAttention(nn.Module):
    """Queries, keys and values from one product; keys and values are cached."""

    def __init__(
        self, spec: AttentionSpec, D: int, eps: float, table: int, temperature_table: int = -1
    ) -> None:
        super().__init__()
        H, K, C = spec.heads, spec.kv_heads, spec.head_dim
        self.table, self.temperature_table = table, temperature_table
        self.norm = spec.norm
        self.qkv_proj = QKVLinear(D, H, K, C, bias=spec.qkv_bias, gated=spec.gated)
        if spec.norm is QueryKeyNorm.HEAD:
            self.q_norm, self.k_norm = (RMSNorm(C, eps, shard=Shard.HEAD) for _ in range(2))
        elif spec.norm is QueryKeyNorm.HEAD_PLAIN:
            self.q_norm, self.k_norm = (PlainRMSNorm(eps) for _ in range(2))
        elif spec.norm is QueryKeyNorm.WIDTH:
            self.q_norm, self.k_norm = (HeadsRMSNorm(n, C, eps) for n in (H, K))
        self.rope = RopeQK(neighbours=spec.rope.neighbours) if spec.rope is not None else None
        self.temperature = QueryTemperature("attention", Shard.HEAD) if spec.temperature else None
        self.kv_append = KvAppend("attention", Shard.HEAD)
        self.core = AttentionCore(spec)
        self.gate = SigmoidMul("attention", Shard.HEAD) if spec.gated else None
        self.o_proj = Linear(H * C, D, "attention", Shard.ROW, bias=spec.out_bias)

    @property
    def cache_widths(self) -> tuple[int, ...]:
        """Shape of a token's rows in the cache of this rank."""
        return (self.qkv_proj.kv_heads, 2 * self.qkv_proj.head_dim)

    def forward(
        self, x_BSD: Tensor, tables: Tables, past_BTKM: Tensor | None, absorbed: bool
    ) -> tuple[Tensor, Tensor]:
        """Attention output [B, S, D] and the cache [B, T, K, M]; `absorbed` has no meaning here."""
        q_BSX, k_BSX, v_BSX = self.qkv_proj(x_BSD).split(self.qkv_proj.widths, -1)
        if self.norm is QueryKeyNorm.WIDTH:
            q_BSX, k_BSX = self.q_norm(q_BSX), self.k_norm(k_BSX)
        C = self.qkv_proj.head_dim
        k_BSKC, v_BSKC = (x.unflatten(-1, (-1, C)) for x in (k_BSX, v_BSX))
        q_BSHC, *gate_BSHC = q_BSX.unflatten(-1, (self.qkv_proj.heads, -1)).split(C, -1)
        if self.norm in (QueryKeyNorm.HEAD, QueryKeyNorm.HEAD_PLAIN):
            q_BSHC, k_BSKC = self.q_norm(q_BSHC), self.k_norm(k_BSKC)
        if self.rope is not None:
            q_BSHC, k_BSKC = self.rope(q_BSHC, k_BSKC, *tables[self.table])
        if self.temperature is not None:
            q_BSHC = self.temperature(q_BSHC, *tables[self.temperature_table])
        cache_BTKM = self.kv_append(past_BTKM, k_BSKC, v_BSKC)
        o_BSHC = self.core(q_BSHC, cache_BTKM)
        if self.gate is not None:
            o_BSHC = self.gate(o_BSHC, *gate_BSHC)
        return self.o_proj(o_BSHC.flatten(2)), cache_BTKM


class BidirectionalCore(Layer):
    """Scores, softmax and values of all tokens."""

    def __init__(self, scale: float) -> None:
        super().__init__("attention", Shard.HEAD)
        self.scale = scale

    def forward(self, q_BSHC: Tensor, k_BSHC: Tensor, v_BSHC: Tensor) -> Tensor:
        """Outputs [B, S, H, C]."""
        return kernels.bidirectional_attention(q_BSHC, k_BSHC, v_BSHC, self.scale)


class BidirectionalAttention(nn.Module):
    """Attention of every token to all tokens; nothing is cached."""

    def __init__(self, spec: AttentionSpec, D: int) -> None:
        super().__init__()
        H, C = spec.heads, spec.head_dim
        self.qkv_proj = QKVLinear(D, H, H, C, bias=spec.qkv_bias)
        self.core = BidirectionalCore(spec.scale)
        self.o_proj = Linear(H * C, D, "attention", Shard.ROW, bias=spec.out_bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Attention output [B, S, D]."""
        parts = self.qkv_proj(x_BSD).split(self.qkv_proj.widths, -1)
        q_BSHC, k_BSHC, v_BSHC = (x.unflatten(-1, (-1, self.qkv_proj.head_dim)) for x in parts)
        return self.o_proj(self.core(q_BSHC, k_BSHC, v_BSHC).flatten(2))
