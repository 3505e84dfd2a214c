"""Kernels of a transformer besides attention and experts: look-ups, norms, products, rotations, sums."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.registry import Call, Dim, Scalar, kernel


def _embedding_fake(ids: Tensor, table_WD: Tensor, first_row: int, scale: float = 1.0) -> Tensor:
    return table_WD.new_empty((*ids.shape, table_WD.shape[1]))


@kernel(
    "embedding",
    fake=_embedding_fake,
    inputs={"ids": Role.INDEX, "table_WD": Role.WEIGHT},
    rules={"weight_bytes": lambda call: call.outputs[0].n_bytes},
)
def embedding(ids: Tensor, table_WD: Tensor, first_row: int, scale: float = 1.0) -> Tensor:
    """Rows of the table, which holds `first_row` onwards, times `scale` in the table's own precision.

    An id that another rank holds gives zeros.
    """
    local = ids - first_row
    held = (local >= 0) & (local < table_WD.shape[0])
    factor = torch.tensor(scale, dtype=table_WD.dtype, device=table_WD.device)
    return F.embedding(local.where(held, 0), table_WD) * (held.unsqueeze(-1) * factor)


def _normalised(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    wide = x.float()
    wide = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)
    return wide if weight is None else weight * wide


def _rmsnorm_fake(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    return x.new_empty(x.shape)


@kernel("rmsnorm", fake=_rmsnorm_fake, inputs={"weight": Role.WEIGHT})
def rmsnorm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """The input over its root mean square along the last axis, in fp32, times the weight if there is one."""
    return _normalised(x, weight, eps).contiguous()


def _add_rmsnorm_fake(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


@kernel(
    "add_rmsnorm",
    fake=_add_rmsnorm_fake,
    inputs={"weight": Role.WEIGHT},
    outputs=(Role.ACTIVATION, Role.ACTIVATION),
)
def add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum normalised, and the sum, which is the new residual."""
    total = residual + x
    return _normalised(total, weight, eps), total


def _linear_flop(call: Call) -> Dim:
    return 2 * call["x"].n_elements * call["weight_NK"].shape[0]


def _linear_fake(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight_NK.shape[0]))


def linear_attrs(call: Call) -> dict[str, Scalar]:
    """Sizes of the weight."""
    n, k = (int(dim) for dim in call["weight_NK"].shape)
    return {"n": n, "k": k}


@kernel(
    "linear",
    fake=_linear_fake,
    inputs={"weight_NK": Role.WEIGHT, "bias_N": Role.WEIGHT},
    flop=_linear_flop,
    attrs=linear_attrs,
)
def linear(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Product [.., n] of x [.., k] and the transposed weight [n, k], plus the bias."""
    return F.linear(x, weight_NK, bias_N)


def _rope_fake(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@kernel("rope", fake=_rope_fake)
def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The input [B, S, heads, P] rotated in neighbouring pairs by cos and sin [B, S, P/2].

    The output holds the even elements first, then the odd ones: a permutation of the published layout that
    scores do not see, because queries and keys share it.
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    return torch.cat([even * cos - odd * sin, odd * cos + even * sin], -1)


def _rope_qk_fake(
    q_BSHC: Tensor, k_BSKC: Tensor, cos: Tensor, sin: Tensor, neighbours: bool
) -> tuple[Tensor, Tensor]:
    return q_BSHC.new_empty(q_BSHC.shape), k_BSKC.new_empty(k_BSKC.shape)


@kernel("rope_qk", fake=_rope_qk_fake, outputs=(Role.ACTIVATION, Role.ACTIVATION))
def rope_qk(
    q_BSHC: Tensor, k_BSKC: Tensor, cos: Tensor, sin: Tensor, neighbours: bool
) -> tuple[Tensor, Tensor]:
    """Queries and keys, the first P features of each head rotated by cos and sin [B, S, P/2].

    With `neighbours` the features 2 i and 2 i + 1 turn together, else i and i + P / 2.
    """
    return _rotated(q_BSHC, cos, sin, neighbours), _rotated(k_BSKC, cos, sin, neighbours)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, neighbours: bool) -> Tensor:
    width = 2 * cos.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    if neighbours:
        first, second = turned[..., 0::2], turned[..., 1::2]
        pairs = torch.stack([first * cos - second * sin, second * cos + first * sin], -1)
        return torch.cat([pairs.flatten(-2), rest], -1)
    first, second = turned.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)


def _silu_mul_fake(gate_up: Tensor) -> Tensor:
    return gate_up.new_empty((*gate_up.shape[:-1], gate_up.shape[-1] // 2))


@kernel("silu_mul", fake=_silu_mul_fake)
def silu_mul(gate_up: Tensor) -> Tensor:
    """SiLU of the first half of the last axis times the second half."""
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


GATES = {"gelu": "none", "gelu_tanh": "tanh"}


def _gelu_mul_fake(gate_up: Tensor, activation: str) -> Tensor:
    return _silu_mul_fake(gate_up)


@kernel("gelu_mul", fake=_gelu_mul_fake)
def gelu_mul(gate_up: Tensor, activation: str) -> Tensor:
    """GELU of the first half of the last axis times the second half; `gelu_tanh` approximates it."""
    gate, up = gate_up.chunk(2, -1)
    return F.gelu(gate, approximate=GATES[activation]) * up


def _activation_fake(x: Tensor, name: str) -> Tensor:
    return x.new_empty(x.shape)


_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


@kernel("activation", fake=_activation_fake)
def activation(x: Tensor, name: str) -> Tensor:
    """The named function of every element: `relu2` is the square of ReLU, `gelu_tanh` approximates `gelu`."""
    return _ACTIVATIONS[name](x)


def _scale_queries_fake(q_BSHC: Tensor, factor_BS: Tensor) -> Tensor:
    return q_BSHC.new_empty(q_BSHC.shape)


@kernel("scale_queries", fake=_scale_queries_fake)
def scale_queries(q_BSHC: Tensor, factor_BS: Tensor) -> Tensor:
    """Queries times the factor of their token."""
    return (q_BSHC * factor_BS[..., None, None]).to(q_BSHC.dtype)


def _sigmoid_mul_fake(x: Tensor, gate: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@kernel("sigmoid_mul", fake=_sigmoid_mul_fake)
def sigmoid_mul(x: Tensor, gate: Tensor) -> Tensor:
    """The input times the sigmoid of the gate, which has its shape or one column."""
    return x * gate.sigmoid()


def _add_fake(x: Tensor, y: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@kernel("add", fake=_add_fake)
def add(x: Tensor, y: Tensor) -> Tensor:
    """Sum of two tensors of one shape."""
    return x + y


def _concat_fake(x: Tensor, y: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] + y.shape[-1]))


@kernel("concat", fake=_concat_fake)
def concat(x: Tensor, y: Tensor) -> Tensor:
    """Both tensors side by side along the last axis."""
    return torch.cat([x, y], -1)
