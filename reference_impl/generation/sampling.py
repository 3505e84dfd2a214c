"""How the next token is chosen: greedily or at a temperature, with one seeded generator."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem


@dataclass(frozen=True)
class Sampling:
    """Temperature 0 takes the most likely token; the seed decides every draw.

    Raises:
        InputError: the temperature is negative.
    """

    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise InputError(Problem("must be at least 0", str(self.temperature), path="temperature"))


class Sampler:
    """Draws tokens; the same seed and the same logits give the same tokens."""

    def __init__(self, sampling: Sampling, device: torch.device | str = "cpu") -> None:
        self._temperature = sampling.temperature
        self._generator = torch.Generator(device).manual_seed(sampling.seed)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Distribution [.., W] of the next token, fp64; all on one token at temperature 0."""
        if self._temperature == 0:
            return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
        return (logits.double() / self._temperature).softmax(-1)

    def draw(self, probabilities_BW: Tensor) -> Tensor:
        """A token of each distribution [B]."""
        return torch.multinomial(probabilities_BW, 1, generator=self._generator).squeeze(-1)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), fp64."""
        device = self._generator.device
        return torch.rand(*shape, generator=self._generator, dtype=torch.float64, device=device)
