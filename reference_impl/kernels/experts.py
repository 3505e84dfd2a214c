"""Kernels of a mixture of experts: the router and the grouped products.

Dimensions: N tokens, D model width, E experts (those this rank holds), K experts a token, F intermediate
width.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.registry import Call, Dim, Scalar, kernel, product


def _route_fake(
    x_ND: Tensor,
    gate_ED: Tensor,
    bias_E: Tensor | None,
    topk: int,
    n_groups: int,
    topk_groups: int,
    scale: float,
    normalise: bool,
    scoring: str = "sigmoid",
    logit_bias_E: Tensor | None = None,
    scored_of_group: int = 2,
) -> tuple[Tensor, Tensor]:
    shape = (x_ND.shape[0], topk)
    return x_ND.new_empty(shape, dtype=torch.float32), x_ND.new_empty(shape, dtype=torch.int64)


def _route_attrs(call: Call) -> dict[str, Scalar]:
    kept = {name: call.scalars[name] for name in ("topk", "n_groups", "topk_groups")}
    return kept | {"n_experts": int(call["gate_ED"].shape[0])}


@kernel(
    "moe_route",
    fake=_route_fake,
    inputs={"gate_ED": Role.WEIGHT, "bias_E": Role.WEIGHT, "logit_bias_E": Role.WEIGHT},
    outputs=(Role.ACTIVATION, Role.INDEX),
    flop=lambda call: 2 * call["x_ND"].n_elements * call["gate_ED"].shape[0],
    attrs=_route_attrs,
)
def moe_route(
    x_ND: Tensor,
    gate_ED: Tensor,
    bias_E: Tensor | None,
    topk: int,
    n_groups: int,
    topk_groups: int,
    scale: float,
    normalise: bool,
    scoring: str = "sigmoid",
    logit_bias_E: Tensor | None = None,
    scored_of_group: int = 2,
) -> tuple[Tensor, Tensor]:
    """Weights (fp32) and expert numbers [N, K]: top-k of sigmoid or softmax scores, inside the best groups.

    `bias_E` decides who is chosen and never what a choice weighs; a group scores the sum of its best
    `scored_of_group` experts; the weights of a token are normalised, then scaled.
    """
    logits_NE = F.linear(x_ND.float(), gate_ED.float())
    if logit_bias_E is not None:
        logits_NE = logits_NE + logit_bias_E.float()
    scores_NE = logits_NE.sigmoid() if scoring == "sigmoid" else logits_NE.softmax(-1)
    choice_NE = scores_NE if bias_E is None else scores_NE + bias_E
    if n_groups > 1:
        choice_NE = _inside_best_groups(choice_NE, n_groups, topk_groups, scored_of_group)
    indices_NK = choice_NE.topk(topk, -1).indices
    weights_NK = scores_NE.gather(1, indices_NK)
    if normalise:
        weights_NK = weights_NK / (weights_NK.sum(-1, keepdim=True) + 1e-20)
    return weights_NK * scale, indices_NK


def _inside_best_groups(
    choice_NE: Tensor, n_groups: int, topk_groups: int, scored_of_group: int = 2
) -> Tensor:
    """The scores, minus infinity outside each token's best groups."""
    grouped = choice_NE.unflatten(1, (n_groups, -1))
    group_scores = grouped.topk(scored_of_group, -1).values.sum(-1)
    best = group_scores.topk(topk_groups, -1).indices
    kept = torch.zeros_like(group_scores, dtype=torch.bool).scatter_(1, best, True)
    return grouped.masked_fill(~kept.unsqueeze(-1), float("-inf")).flatten(1)


CLAMP = 7.0
SWIGLU_SLOPE = 1.702


def gated(gate_up: Tensor, activation: str) -> Tensor:
    """The activation between the two products of an expert, of [.., gate then up]."""
    gate, up = gate_up.chunk(2, -1)
    if activation == "silu":
        return F.silu(gate) * up
    assert activation == "clamped_swiglu", activation
    gate, up = gate.clamp(max=CLAMP), up.clamp(-CLAMP, CLAMP)
    return (up + 1) * gate * torch.sigmoid(SWIGLU_SLOPE * gate)


def _experts_fake(
    x_ND: Tensor,
    weights_NK: Tensor,
    indices_NK: Tensor,
    w_gate_up_EGD: Tensor,
    w_down_EDF: Tensor,
    first_expert: int,
    n_experts: int,
    activation: str = "silu",
    bias_gate_up_EG: Tensor | None = None,
    bias_down_ED: Tensor | None = None,
) -> Tensor:
    return x_ND.new_empty(x_ND.shape)


def _experts_flop(call: Call) -> Dim:
    """Both products of every row; a rank that holds part of the experts gets that part of the rows."""
    held, width, inter = call["w_down_EDF"].shape
    rows = call["indices_NK"].n_elements
    return product(6, rows, width, inter, held) // int(call.scalars["n_experts"])


def _experts_attrs(call: Call) -> dict[str, Scalar]:
    held, width, inter = (int(dim) for dim in call["w_down_EDF"].shape)
    return {
        "topk": int(call["indices_NK"].shape[1]),
        "n_experts": int(call.scalars["n_experts"]),
        "n_local_experts": held,
        "hidden": width,
        "inter": inter,
    }


@kernel(
    "moe_experts",
    fake=_experts_fake,
    inputs={
        "indices_NK": Role.INDEX,
        "w_gate_up_EGD": Role.WEIGHT,
        "w_down_EDF": Role.WEIGHT,
        "bias_gate_up_EG": Role.WEIGHT,
        "bias_down_ED": Role.WEIGHT,
    },
    flop=_experts_flop,
    attrs=_experts_attrs,
)
def moe_experts(
    x_ND: Tensor,
    weights_NK: Tensor,
    indices_NK: Tensor,
    w_gate_up_EGD: Tensor,
    w_down_EDF: Tensor,
    first_expert: int,
    n_experts: int,
    activation: str = "silu",
    bias_gate_up_EG: Tensor | None = None,
    bias_down_ED: Tensor | None = None,
) -> Tensor:
    """Weighted sum [N, D] of the outputs of those chosen experts that this rank holds.

    The rank holds `first_expert` onwards of `n_experts`; G is 2 F, gate then up. The work counts the weights
    of all experts held: a step reads those that some token chose, E (1 - (1 - K / n_experts)^N) on average
    under balanced load, which no closed integer form says. Whoever prices the call finds topk and the expert
    counts in its attributes.
    """
    out_ND = torch.zeros_like(x_ND)
    for held in range(w_down_EDF.shape[0]):
        token, slot = torch.where(indices_NK == first_expert + held)
        if token.numel():
            hidden = F.linear(x_ND[token], w_gate_up_EGD[held], _row(bias_gate_up_EG, held))
            y = F.linear(gated(hidden, activation), w_down_EDF[held], _row(bias_down_ED, held))
            out_ND.index_add_(0, token, (y * weights_NK[token, slot, None]).to(x_ND.dtype))
    return out_ND


def _row(biases: Tensor | None, index: int) -> Tensor | None:
    return None if biases is None else biases[index]
