"""Feed-forward parts: the gated MLP, and mixtures of experts with or without a shared one.

Dimensions in names: B sequences, S new tokens, N = B x S tokens, D hidden, F intermediate width, E routed
experts of this rank, K experts a token.

References: DeepSeek-V3 report (arXiv 2412.19437) sections 2.1.2 and 4.2.
"""

import torch
from torch import Tensor, nn

from model_graphs.blueprint import FeedForwardSpec, MixtureSpec
from model_graphs.graph import Shard
from reference_impl import kernels
from reference_impl.layers import Add, Layer, Linear, SiluMul, parameter


class MLP(nn.Module):
    """SwiGLU with gate and up in one product."""

    def __init__(self, spec: FeedForwardSpec, width: int, component: str) -> None:
        super().__init__()
        inter = spec.inter
        self.gate_up_proj = Linear(width, 2 * inter, component, Shard.COLUMN, parts=2)
        self.silu_mul = SiluMul(component, Shard.COLUMN)
        self.down_proj = Linear(inter, width, component, Shard.ROW)

    def forward(self, x: Tensor) -> Tensor:
        """Output [.., D]."""
        return self.down_proj(self.silu_mul(self.gate_up_proj(x)))


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
    """Routed experts as stacked weights; a rank holds `first_expert` onwards of `n_experts`."""

    def __init__(self, spec: MixtureSpec, width: int) -> None:
        super().__init__("moe", Shard.EXPERT)
        self.gate_up_proj = parameter(spec.experts, 2 * spec.inter, width)
        self.down_proj = parameter(spec.experts, width, spec.inter)
        self.gate_up_bias = parameter(spec.experts, 2 * spec.inter) if spec.expert_bias else None
        self.down_bias = parameter(spec.experts, width) if spec.expert_bias else None
        self.activation = spec.activation.value
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
        )


class Routed(nn.Module):
    """The routed half of the mixture."""

    def __init__(self, spec: MixtureSpec, width: int) -> None:
        super().__init__()
        self.gate = Router(spec, width)
        self.experts = Experts(spec, width)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Each token through its chosen experts."""
        return self.experts(x_ND, *self.gate(x_ND))


class MoE(nn.Module):
    """Routed experts, and beside them a shared one that sees every token where there is one."""

    def __init__(self, spec: MixtureSpec, width: int) -> None:
        super().__init__()
        self.routed = Routed(spec, width)
        self.shared_experts = MLP(spec.shared, width, "shared_expert") if spec.shared else None
        self.add_shared = Add("moe") if spec.shared else None

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Output [B, S, D]."""
        x_ND = x_BSD.flatten(0, 1)
        y_ND = self.routed(x_ND)
        if self.shared_experts is not None and self.add_shared is not None:
            y_ND = self.add_shared(y_ND, self.shared_experts(x_ND))
        return y_ND.view(x_BSD.shape)
