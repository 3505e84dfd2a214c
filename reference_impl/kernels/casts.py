"""Products of a model in fp32 whose operands are cast to bf16 at each call, as PyTorch's autocast does.

A cast weight is an activation: it is made anew at each call, because autocast keeps casts only of weights
that are trained. The product is rounded to bf16 and written in fp32.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.elementwise import linear_attrs
from reference_impl.kernels.experts import moe_experts
from reference_impl.kernels.registry import KERNELS, kernel, plain_kernels, product

_EXPERTS = KERNELS["moe_experts"]


def _cast_fake(x: Tensor) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.bfloat16)


@kernel("cast", name="cast_input", fake=_cast_fake)
def cast_input(x: Tensor) -> Tensor:
    """The input in bf16."""
    return x.to(torch.bfloat16, copy=True)


@kernel("cast", name="cast_weight", fake=_cast_fake, inputs={"x": Role.WEIGHT})
def cast_weight(x: Tensor) -> Tensor:
    """The weight in bf16."""
    return x.to(torch.bfloat16, copy=True)


def _linear_fake(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight_NK.shape[0]), dtype=torch.float32)


@kernel(
    "linear",
    name="cast_linear",
    fake=_linear_fake,
    inputs={"bias_N": Role.WEIGHT},
    flop=lambda call: product(2, call["x"].n_elements, call["weight_NK"].shape[0]),
    attrs=linear_attrs,
    compute=lambda call: "bf16",
)
def cast_linear(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    """Product [.., n] in fp32 of an input and a weight that were cast to bf16."""
    y = F.linear(x, weight_NK).float()
    return y if bias_N is None else y + bias_N


def _experts_fake(
    x_ND: Tensor,
    weights_NK: Tensor,
    indices_NK: Tensor,
    w_gate_up_EGD: Tensor,
    w_down_EDF: Tensor,
    first_expert: int,
    n_experts: int,
    activation: str,
) -> Tensor:
    return x_ND.new_empty(x_ND.shape, dtype=torch.float32)


@kernel(
    "moe_experts",
    name="cast_experts",
    fake=_experts_fake,
    inputs={"indices_NK": Role.INDEX},
    flop=_EXPERTS.flop,
    attrs=_EXPERTS.attrs,
    compute=lambda call: "bf16",
)
def cast_experts(
    x_ND: Tensor,
    weights_NK: Tensor,
    indices_NK: Tensor,
    w_gate_up_EGD: Tensor,
    w_down_EDF: Tensor,
    first_expert: int,
    n_experts: int,
    activation: str,
) -> Tensor:
    """Weighted sum [N, D] in fp32 of the experts' outputs, their products in bf16."""
    with plain_kernels(), torch.autocast(x_ND.device.type, torch.bfloat16):
        return moe_experts(
            x_ND.float(),
            weights_NK,
            indices_NK,
            w_gate_up_EGD,
            w_down_EDF,
            first_expert,
            n_experts,
            activation,
        )
