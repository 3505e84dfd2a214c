"""The grouped products of a mixture of experts, in few bits.

Dimensions: N tokens, D model width, E experts (those this rank holds), K experts a token, F intermediate
width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.formats import Packed
from reference_impl.kernels.experts import activated
from reference_impl.kernels.packed import (
    computed_in,
    flop_a_weight,
    packed_product,
    quantised,
    rule_attrs,
    stored,
)
from reference_impl.kernels.registry import Call, Dim, Scalar, kernel, product


def _fake(
    x_ND: Sequence[Tensor],
    weights_NK: Tensor,
    indices_NK: Tensor,
    gate_up: Sequence[Tensor],
    down: Sequence[Tensor],
    storage: str,
    inputs: str,
    width: int,
    inter: int,
    first_expert: int,
    n_experts: int,
    accumulation: str,
    out: torch.dtype,
    activation: str = "silu",
    bias_gate_up_EG: Tensor | None = None,
    bias_down_ED: Tensor | None = None,
) -> Tensor:
    return x_ND[0].new_empty((x_ND[0].shape[0], width), dtype=out)


def _view(call: Call) -> Call:
    """The operands of `moe_experts`."""
    held, storage = int(call["gate_up.0"].shape[0]), str(call.scalars["storage"])
    width, inter = int(call.scalars["width"]), int(call.scalars["inter"])
    rows = call["indices_NK"].shape[0]
    shown = {
        "x_ND": stored(call, "x_ND", (rows, width), str(call.scalars["inputs"])),
        "weights_NK": call["weights_NK"],
        "indices_NK": call["indices_NK"],
        "w_gate_up_EGD": stored(call, "gate_up", (held, 2 * inter, width), storage),
        "w_down_EDF": stored(call, "down", (held, width, inter), storage),
    }
    biases = {name: call[name] for name in ("bias_gate_up_EG", "bias_down_ED") if name in call.inputs}
    return Call(shown | biases, call.outputs, call.scalars)


def _flop(call: Call) -> Dim:
    """Both products of every row; a rank that holds part of the experts gets that part of the rows."""
    held, width, inter = call["w_down_EDF"].shape
    rows = call["indices_NK"].n_elements
    return product(3 * flop_a_weight(call), rows, width, inter, held) // int(call.scalars["n_experts"])


def _attrs(call: Call) -> dict[str, Scalar]:
    return {
        "topk": int(call["indices_NK"].shape[1]),
        "n_experts": int(call.scalars["n_experts"]),
        "n_local_experts": int(call["w_down_EDF"].shape[0]),
        "hidden": int(call.scalars["width"]),
        "inter": int(call.scalars["inter"]),
        **rule_attrs(call),
    }


@kernel(
    "moe_experts",
    name="packed_experts",
    fake=_fake,
    inputs={
        "indices_NK": Role.INDEX,
        "gate_up": Role.WEIGHT,
        "down": Role.WEIGHT,
        "bias_gate_up_EG": Role.WEIGHT,
        "bias_down_ED": Role.WEIGHT,
    },
    flop=_flop,
    attrs=_attrs,
    view=_view,
    compute=computed_in,
)
def packed_experts(
    x_ND: Sequence[Tensor],
    weights_NK: Tensor,
    indices_NK: Tensor,
    gate_up: Sequence[Tensor],
    down: Sequence[Tensor],
    storage: str,
    inputs: str,
    width: int,
    inter: int,
    first_expert: int,
    n_experts: int,
    accumulation: str,
    out: torch.dtype,
    activation: str = "silu",
    bias_gate_up_EG: Tensor | None = None,
    bias_down_ED: Tensor | None = None,
) -> Tensor:
    """Weighted sum [N, D] of the outputs of those chosen experts that this rank holds.

    What goes into the second product is quantised as the input was, inside the kernel.
    """

    def multiplied(
        rows: Sequence[Tensor], weight: Sequence[Tensor], n: int, k: int, biases: Tensor | None
    ) -> Tensor:
        packed = Packed.of([part[held] for part in weight], storage)
        y = packed_product(rows, packed, storage, inputs, (n, k), accumulation)
        return y if biases is None else y + biases[held]

    out_ND = x_ND[0].new_zeros((x_ND[0].shape[0], width), dtype=out)
    for held in range(gate_up[0].shape[0]):
        token, slot = torch.where(indices_NK == first_expert + held)
        if token.numel():
            hidden = multiplied(_rows(x_ND, token), gate_up, 2 * inter, width, bias_gate_up_EG)
            between = activated(hidden, activation)
            passed = [between] if inputs == "bf16" else quantised(between, inputs)
            y = multiplied(passed, down, width, inter, bias_down_ED)
            out_ND.index_add_(0, token, (y * weights_NK[token, slot, None]).to(out))
    return out_ND


def _rows(x: Sequence[Tensor], token: Tensor) -> list[Tensor]:
    """The input's rows of some tokens; the scale of the whole stays."""
    if len(x) == 1:
        return [x[0][token]]
    codes, scales, whole = x
    return [codes[token], scales[token] if scales.numel() else scales, whole]
