"""YaRN rotary positions of DeepSeek V3: frequencies stretched beyond the length of pre-training.

References: YaRN (arXiv 2309.00071) section 3.2; DeepSeek-V3 report (arXiv 2412.19437) section 4.3. Unlike
DeepSeek's own code, which stretches only models longer than the original length, a config with `rope_scaling`
always stretches.
"""

import math

import torch
from torch import Tensor, nn

from model_graphs.configs import DeepSeekV3Config, RopeScaling


def inverse_frequencies(config: DeepSeekV3Config) -> Tensor:
    """Radians a token of each pair [P/2], fp32.

    Pairs that turn more than `beta_fast` times over the original length keep their frequency, those that turn
    less than `beta_slow` times are slowed by `factor`, and a ramp over the pair number joins the two.
    """
    width, scaling = config.qk_rope_head_dim, config.rope_scaling
    pairs = torch.arange(0, width, 2, dtype=torch.float32, device="cpu")
    plain = 1.0 / config.rope_theta ** (pairs / width)
    if scaling is None:
        return plain
    first = max(math.floor(_pair_that_turns(scaling.beta_fast, config, scaling)), 0)
    last = min(math.ceil(_pair_that_turns(scaling.beta_slow, config, scaling)), width - 1)
    span = max(last - first, 0.001)
    slowed = ((pairs / 2 - first) / span).clamp(0, 1)
    return plain * (1 - slowed) + plain / scaling.factor * slowed


def _pair_that_turns(turns: float, config: DeepSeekV3Config, scaling: RopeScaling) -> float:
    """Number of the pair (not whole) that turns this often over the original length."""
    length = scaling.original_max_position_embeddings
    return (
        config.qk_rope_head_dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(config.rope_theta))
    )


def magnitude_scale(factor: float, mscale: float) -> float:
    """YaRN's correction of attention temperature for a stretch by `factor`."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def softmax_scale(config: DeepSeekV3Config) -> float:
    """What scores are multiplied by: one over the root of the head width, times YaRN's correction."""
    scale, scaling = config.qk_head_dim**-0.5, config.rope_scaling
    if scaling is None or not scaling.mscale_all_dim:
        return scale
    return scale * magnitude_scale(scaling.factor, scaling.mscale_all_dim) ** 2


def rotary_scale(config: DeepSeekV3Config) -> float:
    """What sines and cosines are multiplied by: the rest of YaRN's correction."""
    scaling = config.rope_scaling
    if scaling is None:
        return 1.0
    if not (scaling.mscale and scaling.mscale_all_dim):
        return magnitude_scale(scaling.factor, 1.0)
    return magnitude_scale(scaling.factor, scaling.mscale) / magnitude_scale(
        scaling.factor, scaling.mscale_all_dim
    )


class Rotary(nn.Module):
    """Sines and cosines of a step's positions, made once for all layers."""

    def __init__(self, config: DeepSeekV3Config) -> None:
        super().__init__()
        self.scale = rotary_scale(config)
        self.inv_freq = inverse_frequencies(config)

    def forward(self, positions_BS: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine [B, S, P/2]."""
        angles = positions_BS.unsqueeze(-1).float() * self.inv_freq.to(positions_BS.device)
        return (angles.cos() * self.scale).to(dtype), (angles.sin() * self.scale).to(dtype)
