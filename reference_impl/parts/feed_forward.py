"""Feed-forward parts: the MLP with and without a gate, and mixtures of experts with or without a shared one.

Dimensions in names: B sequences, S new tokens, N = B x S tokens, D hidden, F intermediate width, E routed
experts of this rank, K experts a token.

References: DeepSeek-V3 report (arXiv 2412.19437) sections 2.1.2 and 4.2.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model_graphs.blueprint import Activation, FeedForwardSpec, MixtureSpec
from model_graphs.graph import Shard
from reference_impl import kernels
from reference_impl.layers import Activate, Add, GeluMul, Layer, Linear, SigmoidMul, SiluMul, parameter


class MLP(nn.Sequential):
    """A product up, its activation, a product down; where there is a gate, gate and up are one product."""

    down_proj: Linear

    def __init__(self, spec: FeedForwardSpec, width: int, component: str) -> None:
        up, parts = ("gate_up_proj", 2) if spec.gated else ("up_proj", 1)
        activation, layer = _activation(spec, component)
        rows = parts * spec.inter
        steps: dict[str, Layer] = {
            up: Linear(width, rows, component, Shard.COLUMN, parts=parts, bias=spec.bias),
            activation: layer,
            "down_proj": Linear(spec.inter, width, component, Shard.ROW, bias=spec.bias),
        }
        super().__init__(OrderedDict(steps))


def _activation(spec: FeedForwardSpec, component: str) -> tuple[str, Layer]:
    """The layer between the products, and its name."""
    if not spec.gated:
        return "activation", Activate(component, Shard.COLUMN, spec.activation.value)
    if spec.activation is Activation.SILU:
        return "silu_mul", SiluMul(component, Shard.COLUMN)
    return "gelu_mul", GeluMul(component, Shard.COLUMN, spec.activation.value)


class Router(Layer):
    """Scores, a choice inside the best groups, and its weights; biases that balance are kept in fp32."""

    def __init__(self, spec: MixtureSpec, width: int) -> None:
        super().__init__("router")
        self.spec = spec
        self.weight = parameter(spec.experts, width)
        self.bias = parameter(spec.experts) if spec.router_bias else None
        balance = torch.empty(spec.experts, dtype=torch.float32) if spec.balanced else None
        self.e_score_correction_bias = nn.Buffer(balance) if balance is not None else None

    def forward(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and expert numbers [N, K]."""
        spec = self.spec
        return kernels.moe_route(
            x_ND,
            self.weight,
            self.e_score_correction_bias,
            spec.topk,
            spec.groups,
            spec.topk_groups,
            spec.scale,
            spec.normalise,
            spec.scoring.value,
            self.bias,
            spec.scored_of_group,
        )


class Experts(Layer):
    """Routed experts as stacked weights; a rank holds `first_expert` onwards of `n_experts`.

    Without gates, `gate_up_proj` is the product up alone.
    """

    def __init__(self, spec: MixtureSpec, width: int) -> None:
        super().__init__("moe", Shard.EXPERT)
        rows = spec.inter * (2 if spec.gated else 1)
        self.gate_up_proj = parameter(spec.experts, rows, width)
        self.down_proj = parameter(spec.experts, width, spec.inter)
        self.gate_up_bias = parameter(spec.experts, rows) if spec.expert_bias else None
        self.down_bias = parameter(spec.experts, width) if spec.expert_bias else None
        self.activation = spec.activation.value
        self.weighs_inputs = spec.weighs_inputs
        self.first_expert = 0
        self.n_experts = spec.experts

    def forward(self, x_ND: Tensor, weights_NK: Tensor, indices_NK: Tensor) -> Tensor:
        """Weighted sum [N, D] over each token's experts."""
        return kernels.moe_experts(
            x_ND,
            weights_NK,
            indices_NK,
            self.gate_up_proj,
            self.down_proj,
            self.first_expert,
            self.n_experts,
            self.activation,
            self.gate_up_bias,
            self.down_bias,
            self.weighs_inputs,
        )


class LatentLinear(Linear):
    """The product into the width that experts work in, or out of it; which of the two a layout must know."""

    def __init__(self, k: int, n: int, direction: str) -> None:
        super().__init__(k, n, "moe_latent")
        self.direction = direction

    @property
    def attrs(self) -> Mapping[str, int | str]:
        """The direction."""
        return {"latent": self.direction}


class Routed(nn.Module):
    """The routed half of the mixture; with `latent`, experts work between two products into that width."""

    def __init__(self, spec: MixtureSpec, width: int) -> None:
        super().__init__()
        self.gate = Router(spec, width)
        self.latent_in = LatentLinear(width, spec.latent, "in") if spec.latent else None
        self.experts = Experts(spec, spec.latent or width)
        self.latent_out = LatentLinear(spec.latent, width, "out") if spec.latent else None

    def forward(self, x_ND: Tensor) -> Tensor:
        """Each token through its chosen experts."""
        weights_NK, indices_NK = self.gate(x_ND)
        if self.latent_in is not None:
            x_ND = self.latent_in(x_ND)
        y_ND = self.experts(x_ND, weights_NK, indices_NK)
        return y_ND if self.latent_out is None else self.latent_out(y_ND)


class MoE(nn.Module):
    """Routed experts, and beside them a shared one that sees every token where there is one."""

    def __init__(self, spec: MixtureSpec, width: int) -> None:
        super().__init__()
        self.routed = Routed(spec, width)
        self.shared_experts = MLP(spec.shared, width, "shared_expert") if spec.shared else None
        self.shared_gate_proj = Linear(width, 1, "gate") if spec.shared_gate else None
        self.shared_gate = SigmoidMul("shared_expert") if spec.shared_gate else None
        self.add_shared = Add("moe") if spec.shared else None

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Output [B, S, D]."""
        x_ND = x_BSD.flatten(0, 1)
        y_ND = self.routed(x_ND)
        if self.shared_experts is not None and self.add_shared is not None:
            shared_ND = self.shared_experts(x_ND)
            if self.shared_gate is not None and self.shared_gate_proj is not None:
                shared_ND = self.shared_gate(shared_ND, self.shared_gate_proj(x_ND))
            y_ND = self.add_shared(y_ND, shared_ND)
        return y_ND.view(x_BSD.shape)
