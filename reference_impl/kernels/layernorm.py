"""Layer norms: alone, of a residual stream with what joins it, and of a sum that becomes the stream."""

import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.registry import kernel

_WEIGHTS = {"weight": Role.WEIGHT, "bias": Role.WEIGHT}


def _layernorm_fake(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return x.new_empty(x.shape)


@kernel("layernorm", fake=_layernorm_fake, inputs=_WEIGHTS)
def layernorm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The input less its mean along the last axis over its standard deviation, times weight plus bias."""
    return F.layer_norm(x, weight.shape, weight, bias, eps).contiguous()


def _add_layernorm_fake(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


@kernel(
    "add_layernorm",
    fake=_add_layernorm_fake,
    inputs=_WEIGHTS,
    outputs=(Role.ACTIVATION, Role.ACTIVATION),
)
def add_layernorm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """The sum normalised, and the sum, which is the new residual."""
    total = residual + x
    return F.layer_norm(total, weight.shape, weight, bias, eps), total


def _sum_layernorm_fake(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return x.new_empty(x.shape)


@kernel("sum_layernorm", fake=_sum_layernorm_fake, inputs=_WEIGHTS)
def sum_layernorm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The sum normalised, which is the new residual."""
    return F.layer_norm(residual + x, weight.shape, weight, bias, eps)
