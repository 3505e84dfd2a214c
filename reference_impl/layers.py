"""Leaf layers of the reference models: one kernel each, and what a graph must know about it.

A layer carries its `component` (what a breakdown books it under), its `shard` (how tensor or expert
parallelism splits it) and `attrs` (what else a pass must know); emission reads them here and nowhere else.
Layers are plain: parallel runs replace their weights by shards and put collectives around them from outside
(`parallel`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model_graphs.graph import Shard
from reference_impl import kernels


def parameter(*shape: int) -> nn.Parameter:
    """An uninitialised weight that is never trained, of the default dtype and device."""
    return nn.Parameter(torch.empty(*shape), requires_grad=False)


class Layer(nn.Module):
    """A module that calls one kernel."""

    @property
    def attrs(self) -> Mapping[str, int | str]:
        """Attributes of the operator beyond those of its kernel."""
        return {}

    def __init__(self, component: str, shard: Shard = Shard.NONE) -> None:
        super().__init__()
        self.component = component
        self.shard = shard


class Embedding(Layer):
    """Rows of a table [W, D]; a shard of the vocabulary starts at `first_row`."""

    def __init__(self, n_rows: int, width: int) -> None:
        super().__init__("embedding", Shard.VOCAB)
        self.weight = parameter(n_rows, width)
        self.first_row = 0

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [.., D] of the ids."""
        return kernels.embedding(ids, self.weight, self.first_row)


class Norm(Layer):
    """The weight and the epsilon of a norm."""

    def __init__(self, width: int, eps: float, component: str = "norm", shard: Shard = Shard.NONE) -> None:
        super().__init__(component, shard)
        self.weight = parameter(width)
        self.eps = eps


class RMSNorm(Norm):
    """Root-mean-square norm."""

    def forward(self, x: Tensor) -> Tensor:
        """The input normalised."""
        return kernels.rmsnorm(x, self.weight, self.eps)


class LayerNorm(Norm):
    """Norm of the deviation from the mean, with a bias."""

    def __init__(self, width: int, eps: float, component: str = "norm", shard: Shard = Shard.NONE) -> None:
        super().__init__(width, eps, component, shard)
        self.bias = parameter(width)

    def forward(self, x: Tensor) -> Tensor:
        """The input normalised."""
        return kernels.layernorm(x, self.weight, self.bias, self.eps)


class HeadsRMSNorm(RMSNorm):
    """Root-mean-square norm over all heads of queries or of keys as one vector.

    Under tensor parallelism engines exchange the sums of squares, four bytes a token and rank; here each rank
    normalises over its own heads, and no graph has the exchange.
    """

    def __init__(self, heads: int, head_dim: int, eps: float) -> None:
        super().__init__(heads * head_dim, eps, shard=Shard.COLUMN)
        self.heads = heads

    @property
    def attrs(self) -> Mapping[str, int | str]:
        """Heads, which tensor parallelism divides."""
        return {"n_heads": self.heads}


class AddRMSNorm(Norm):
    """Root-mean-square norm fused with the residual add before it."""

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """The sum normalised, and the sum."""
        return kernels.add_rmsnorm(x, residual, self.weight, self.eps)


class Linear(Layer):
    """A product with a weight [n, k] that stacks `parts` equal matrices along n."""

    def __init__(
        self,
        k: int,
        n: int,
        component: str,
        shard: Shard = Shard.NONE,
        parts: int = 1,
        *,
        bias: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__(component, shard)
        self.weight = parameter(n, k)
        self.bias = parameter(n) if bias else None
        self.parts = parts
        self.tied = tied

    @property
    def attrs(self) -> Mapping[str, int | str]:
        """Whether the weight is that of the embedding."""
        return {"tied": 1} if self.tied else {}

    def forward(self, x: Tensor) -> Tensor:
        """The product [.., n], the bias added."""
        return kernels.linear(x, self.weight, self.bias)


class QKVLinear(Linear):
    """Queries of `heads` heads, keys and values of `kv_heads`, in one product."""

    def __init__(self, k: int, heads: int, kv_heads: int, head_dim: int, *, bias: bool) -> None:
        super().__init__(k, (heads + 2 * kv_heads) * head_dim, "attention", Shard.QKV, bias=bias)
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim

    @property
    def attrs(self) -> Mapping[str, int | str]:
        """Heads, which tensor parallelism divides."""
        return {"n_heads": self.heads, "n_kv_heads": self.kv_heads}

    @property
    def widths(self) -> tuple[int, int, int]:
        """Features of queries, keys and values."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return queries, keys, keys


class Rope(Layer):
    """Rotation of the position part of queries or keys."""

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The input [B, S, heads, P] rotated."""
        return kernels.rope(x, cos, sin)


class KvAppend(Layer):
    """The new tokens' rows into the cache, their parts side by side."""

    def forward(self, past: Tensor | None, first: Tensor, second: Tensor | None = None) -> Tensor:
        """The cache with the new tokens."""
        return kernels.kv_append(past, first, second)


class SiluMul(Layer):
    """Gated activation."""

    def forward(self, gate_up: Tensor) -> Tensor:
        """SiLU(gate) * up."""
        return kernels.silu_mul(gate_up)


class Add(Layer):
    """Sum of two branches."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum."""
        return kernels.add(x, y)


class Concat(Layer):
    """Two tensors side by side."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """[x; y] along the last axis."""
        return kernels.concat(x, y)


class Collective(Layer):
    """A meeting of the ranks of a group."""

    def __init__(self, group: str, n_ranks: int) -> None:
        super().__init__("collective")
        self.group = group
        self.n_ranks = n_ranks


class AllReduce(Collective):
    """Sum over the ranks of a group."""

    def forward(self, x: Tensor) -> Tensor:
        """The sum, on every rank."""
        return kernels.all_reduce(x, self.group, self.n_ranks)


class AllGather(Collective):
    """Tensors of all ranks of a group, side by side along an axis."""

    def __init__(self, group: str, n_ranks: int, axis: int) -> None:
        super().__init__(group, n_ranks)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """Every rank's tensor in rank order."""
        return kernels.all_gather(x, self.group, self.n_ranks, self.axis)


class ReduceScatter(Collective):
    """This rank's rows of the sum over a group."""

    def forward(self, x: Tensor) -> Tensor:
        """One row in `n_ranks`."""
        return kernels.reduce_scatter(x, self.group, self.n_ranks)


class ExpertDispatch(Collective):
    """All-to-all of tokens to the ranks that hold their experts."""

    def __init__(self, group: str, n_ranks: int, n_experts: int) -> None:
        super().__init__(group, n_ranks)
        self.n_experts = n_experts

    def forward(
        self, x_ND: Tensor, weights_NK: Tensor, indices_NK: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows, weights and experts received, and the row counts sent and received."""
        return kernels.ep_dispatch(x_ND, weights_NK, indices_NK, self.group, self.n_ranks, self.n_experts)


class ExpertCombine(Collective):
    """All-to-all of expert outputs back to the ranks of their tokens, summed there."""

    def forward(self, y_RD: Tensor, indices_NK: Tensor, splits: Tensor) -> Tensor:
        """Outputs [N, D] of this rank's tokens."""
        return kernels.ep_combine(y_RD, indices_NK, splits, self.group, self.n_ranks)
