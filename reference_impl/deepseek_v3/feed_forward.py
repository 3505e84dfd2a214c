"""Feed-forward parts of DeepSeek V3: the gated MLP and DeepSeekMoE.

Dimensions in names: B sequences, S new tokens, N = B x S tokens, D hidden, F intermediate width, E routed
experts of this rank, K experts a token.

References: DeepSeek-V3 report (arXiv 2412.19437) sections 2.1.2 and 4.2.
"""

import torch
from torch import Tensor, nn

from model_graphs.configs import DeepSeekV3Config
from model_graphs.graph import Shard
from reference_impl import kernels
from reference_impl.layers import Add, Layer, Linear, SiluMul, parameter


class MLP(nn.Module):
    """SwiGLU with gate and up in one product."""

    def __init__(self, width: int, inter: int, component: str) -> None:
        super().__init__()
        self.gate_up_proj = Linear(width, 2 * inter, component, Shard.COLUMN, parts=2)
        self.silu_mul = SiluMul(component, Shard.COLUMN)
        self.down_proj = Linear(inter, width, component, Shard.ROW)

    def forward(self, x: Tensor) -> Tensor:
        """Output [.., D]."""
        return self.down_proj(self.silu_mul(self.gate_up_proj(x)))


class Router(Layer):
    """Sigmoid scores and a group-limited choice, balanced by a correction bias that is kept in fp32."""

    def __init__(self, config: DeepSeekV3Config) -> None:
        super().__init__("router")
        self.config = config
        self.weight = parameter(config.n_routed_experts, config.hidden_size)
        self.e_score_correction_bias = nn.Buffer(torch.empty(config.n_routed_experts, dtype=torch.float32))

    def forward(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and expert numbers [N, K]."""
        config = self.config
        return kernels.moe_route(
            x_ND,
            self.weight,
            self.e_score_correction_bias,
            config.num_experts_per_tok,
            config.n_group,
            config.topk_group,
            config.routed_scaling_factor,
            config.norm_topk_prob,
        )


class Experts(Layer):
    """Routed experts as stacked weights; a rank holds `first_expert` onwards of `n_experts`."""

    def __init__(self, n_experts: int, width: int, inter: int) -> None:
        super().__init__("moe", Shard.EXPERT)
        self.gate_up_proj = parameter(n_experts, 2 * inter, width)
        self.down_proj = parameter(n_experts, width, inter)
        self.first_expert = 0
        self.n_experts = n_experts

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
        )


class Routed(nn.Module):
    """The routed half of the mixture."""

    def __init__(self, config: DeepSeekV3Config) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config.n_routed_experts, config.hidden_size, config.moe_intermediate_size)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Each token through its chosen experts."""
        return self.experts(x_ND, *self.gate(x_ND))


class MoE(nn.Module):
    """DeepSeekMoE: routed experts beside shared ones that see every token."""

    def __init__(self, config: DeepSeekV3Config) -> None:
        super().__init__()
        self.routed = Routed(config)
        self.shared_experts = MLP(config.hidden_size, config.shared_intermediate_size, "shared_expert")
        self.add_shared = Add("moe")

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Output [B, S, D]."""
        x_ND = x_BSD.flatten(0, 1)
        y_ND = self.add_shared(self.routed(x_ND), self.shared_experts(x_ND))
        return y_ND.view(x_BSD.shape)
