"""Rotary positions, plain or stretched beyond the length of pre-training.

References: RoFormer (arXiv 2104.09864) section 3.2; YaRN (arXiv 2309.00071) section 3.2; DeepSeek-V3 report
(arXiv 2412.19437) section 4.3. Unlike DeepSeek's own code, which stretches only models longer than the
original length, a spec with a scaling always stretches.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_graphs.blueprint import LinearScaling, Llama3Scaling, RopeSpec, YarnScaling

#: cosine and sine [B, S, P/2] of each kind of rotary position, made once a step
Tables = Sequence[tuple[Tensor, Tensor]]


def inverse_frequencies(rope: RopeSpec) -> Tensor:
    """Radians a token of each pair [P/2], fp32."""
    pairs = torch.arange(0, rope.width, 2, dtype=torch.float32, device="cpu")
    plain = 1.0 / rope.theta ** (pairs / rope.width)
    match rope.scaling:
        case None:
            return plain
        case LinearScaling(factor=factor):
            return plain / factor
        case Llama3Scaling():
            return _by_wavelength(plain, rope.scaling)
        case YarnScaling():
            return _by_turns(plain, rope, rope.scaling)


def _by_wavelength(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Long waves stretched, short ones kept, and a blend of both between the two limits."""
    turns = scaling.original_positions * plain / (2 * math.pi)
    span = scaling.high_frequency_factor - scaling.low_frequency_factor
    kept = ((turns - scaling.low_frequency_factor) / span).clamp(0, 1)
    return plain / scaling.factor * (1 - kept) + plain * kept


def _by_turns(plain: Tensor, rope: RopeSpec, scaling: YarnScaling) -> Tensor:
    """Pairs that turn often keep their frequency, slow ones are slowed, a ramp over their number joins them.

    Often is more than `beta_fast` times over the original length, slow less than `beta_slow` times.
    """
    first, last = (_pair_that_turns(turns, rope, scaling) for turns in (scaling.beta_fast, scaling.beta_slow))
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.width - 1)
    span = max(last - first, 0.001)
    number = torch.arange(rope.width // 2, dtype=torch.float32, device="cpu")
    slowed = ((number - first) / span).clamp(0, 1)
    return plain * (1 - slowed) + plain / scaling.factor * slowed


def _pair_that_turns(turns: float, rope: RopeSpec, scaling: YarnScaling) -> float:
    """Number of the pair (not whole) that turns this often over the original length."""
    length = scaling.original_positions
    return rope.width * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))


class Rotary(nn.Module):
    """Sines and cosines of a step's positions, made once for all layers."""

    def __init__(self, ropes: Sequence[RopeSpec]) -> None:
        super().__init__()
        self.inv_freq = [inverse_frequencies(rope) for rope in ropes]
        self.magnitude = [_magnitude(rope) for rope in ropes]

    def forward(self, positions_BS: Tensor, dtype: torch.dtype) -> Tables:
        """The tables of every kind of rotary position."""
        return [
            self._table(positions_BS, dtype, *kind)
            for kind in zip(self.inv_freq, self.magnitude, strict=True)
        ]

    @staticmethod
    def _table(
        positions_BS: Tensor, dtype: torch.dtype, inv_freq: Tensor, magnitude: float
    ) -> tuple[Tensor, Tensor]:
        angles = positions_BS.unsqueeze(-1).float() * inv_freq.to(positions_BS.device)
        return (angles.cos() * magnitude).to(dtype), (angles.sin() * magnitude).to(dtype)


def _magnitude(rope: RopeSpec) -> float:
    return rope.scaling.magnitude if isinstance(rope.scaling, YarnScaling) else 1.0
