"""Grouped attention: query heads that share heads of keys and values, over one cache a layer.

Dimensions in names: B sequences, S new tokens, T tokens in the cache with the new ones, D hidden, H query
heads of this rank, K heads of keys and values of this rank, C width of a head, M = 2 C of a cached pair.

References: GQA (arXiv 2305.13245).
"""

from torch import Tensor, nn

from model_graphs.blueprint import AttentionSpec, QueryKeyNorm
from model_graphs.graph import Shard
from reference_impl import kernels
from reference_impl.layers import HeadsRMSNorm, KvAppend, Layer, Linear, QKVLinear, RMSNorm, parameter
from reference_impl.parts.rotary import Tables


class RopeQK(Layer):
    """Rotation of queries and keys in one kernel."""

    def __init__(self, *, neighbours: bool, component: str = "attention", shard: Shard = Shard.HEAD) -> None:
        super().__init__(component, shard)
        self.neighbours = neighbours

    def forward(self, q_BSHC: Tensor, k_BSKC: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys rotated."""
        return kernels.rope_qk(q_BSHC, k_BSKC, cos, sin, self.neighbours)


class AttentionCore(Layer):
    """Scores, softmax and values over the cache."""

    def __init__(self, spec: AttentionSpec) -> None:
        super().__init__("attention", Shard.HEAD)
        self.scale = spec.scale
        self.window = spec.window or 0
        self.sinks = parameter(spec.heads) if spec.sinks else None

    def forward(self, q_BSHC: Tensor, cache_BTKM: Tensor) -> Tensor:
        """Outputs [B, S, H, C]."""
        return kernels.grouped_attention(q_BSHC, cache_BTKM, self.scale, self.window, self.sinks)


class GroupedAttention(nn.Module):
    """Queries, keys and values from one product; keys and values are cached."""

    def __init__(self, spec: AttentionSpec, D: int, eps: float, table: int) -> None:
        super().__init__()
        H, K, C = spec.heads, spec.kv_heads, spec.head_dim
        self.table = table
        self.norm = spec.norm
        self.qkv_proj = QKVLinear(D, H, K, C, bias=spec.qkv_bias)
        if spec.norm is QueryKeyNorm.HEAD:
            self.q_norm, self.k_norm = (RMSNorm(C, eps, shard=Shard.HEAD) for _ in range(2))
        elif spec.norm is QueryKeyNorm.WIDTH:
            self.q_norm, self.k_norm = (HeadsRMSNorm(n, C, eps) for n in (H, K))
        self.rope = RopeQK(neighbours=spec.rope.neighbours) if spec.rope is not None else None
        self.kv_append = KvAppend("attention", Shard.HEAD)
        self.core = AttentionCore(spec)
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
        q_BSHC, k_BSKC, v_BSKC = (
            x.unflatten(-1, (-1, self.qkv_proj.head_dim)) for x in (q_BSX, k_BSX, v_BSX)
        )
        if self.norm is QueryKeyNorm.HEAD:
            q_BSHC, k_BSKC = self.q_norm(q_BSHC), self.k_norm(k_BSKC)
        if self.rope is not None:
            q_BSHC, k_BSKC = self.rope(q_BSHC, k_BSKC, *tables[self.table])
        cache_BTKM = self.kv_append(past_BTKM, k_BSKC, v_BSKC)
        return self.o_proj(self.core(q_BSHC, cache_BTKM).flatten(2)), cache_BTKM
