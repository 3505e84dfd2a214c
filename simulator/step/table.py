"""The step table: the latency of one engine step in closed form, which is the clock of the serving simulator.

Exact over the token counts it lists (tile and wave steps survive), bilinear over (sequences, length) for
attention. `simulator.step.build` makes one from a graph, a system and a stack; `simulator.serving` only reads
it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class AttentionGrid:
    """Attention seconds of a step on a grid of (sequences, length), summed over all layers."""

    sequences: FloatArray
    length: FloatArray
    latency_s: FloatArray  # [sequences, length]

    def __call__(self, sequences: float, length: float) -> float:
        """Bilinear in both axes; linear beyond the last point, clamped below the first."""
        i = min(max(int(np.searchsorted(self.sequences, sequences)) - 1, 0), len(self.sequences) - 2)
        j = min(max(int(np.searchsorted(self.length, length)) - 1, 0), len(self.length) - 2)
        u = max((sequences - self.sequences[i]) / (self.sequences[i + 1] - self.sequences[i]), 0.0)
        v = max((length - self.length[j]) / (self.length[j + 1] - self.length[j]), 0.0)
        grid = self.latency_s
        return float(
            (1 - u) * (1 - v) * grid[i, j]
            + u * (1 - v) * grid[i + 1, j]
            + (1 - u) * v * grid[i, j + 1]
            + u * v * grid[i + 1, j + 1]
        )


@dataclass(frozen=True)
class StepTable:
    """Seconds of one step of an engine whose attention runs on `dp` lockstep ranks.

    A step with `d` decoding sequences and prefill chunks of `t` tokens in all on a rank, `n = d + t`, lasts

        local_s[max over ranks of n] + expert_s[sum over ranks of n] + head_s[max of sampled sequences] + max
        over ranks of (decode(d, mean context) + prefill(chunks, tokens a chunk) + prefix_s * sum over chunks
        of (new tokens x past tokens)) + host_base_s + host_per_sequence_s * (running sequences of all ranks)
        + host_prefill_s * [any prefill]

    Tables are indexed by integer counts from 0; beyond the last entry they are extended linearly.
    """

    local_s: FloatArray  # [tokens of a rank + 1] operators that see one rank's tokens, with their collectives
    expert_s: FloatArray  # [tokens of all ranks + 1] routed experts and their collectives
    head_s: FloatArray  # [sampled sequences of a rank + 1]
    decode: AttentionGrid
    prefill: AttentionGrid
    prefix_s: float
    host_base_s: float
    host_per_sequence_s: float
    host_prefill_s: float
    dp: int = 1

    def scaled(self, factor: float) -> "StepTable":
        """The same table with every device latency multiplied: a quantile of the shared error."""
        return replace(
            self,
            local_s=self.local_s * factor,
            expert_s=self.expert_s * factor,
            head_s=self.head_s * factor,
            decode=replace(self.decode, latency_s=self.decode.latency_s * factor),
            prefill=replace(self.prefill, latency_s=self.prefill.latency_s * factor),
            prefix_s=self.prefix_s * factor,
            host_base_s=self.host_base_s * factor,
            host_per_sequence_s=self.host_per_sequence_s * factor,
            host_prefill_s=self.host_prefill_s * factor,
        )
