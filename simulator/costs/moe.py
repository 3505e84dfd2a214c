"""Grouped GEMM of routed experts: gate-up and down projections of the busiest rank, with their row traffic.

Every kernel library picks one tile height (16, 64 or 128 rows) for the whole group, most the fastest one and
some by the number of tokens; an active expert reads its weights once. Around the two grouped GEMMs are the
routing kernels (a fixed time, a time an expert) and the traffic of permuting, activating and reducing rows.
Some libraries touch all `tokens * topk` rows on every rank: that is `all_rows_traffic`. Not modelled: the
communication (see `collectives`) and the router GEMM.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.costs.estimates import FloatArray
from simulator.costs.expert_load import TILE_ROWS, ExpertLoad
from simulator.costs.figures import DeviceFigures
from simulator.costs.numerics import (
    DROOP_ONSET_S,
    Priced,
    constant,
    largest_term,
    smooth_max,
    soft_waves,
)

_TILE_COLUMNS = 128.0
_OUTPUT_BYTES = 2.0
_FEW_TOKENS = 64


@dataclass(frozen=True)
class MoeConstants:
    """What is fitted for one dtype and kernel library on one device."""

    launch_s: float = constant(25.0, 0.5, "us")
    expert_s: float = constant(0.1, 1.0, "us")
    tensor_efficiency: float = constant(0.6, 0.25)
    prologue_k: float = constant(200.0, 0.7)
    bandwidth_efficiency: float = constant(0.8, 0.15)
    sharpness: float = constant(4.0, 0.4)
    wave_softness: float = constant(1.0, 0.8)
    row_traffic: float = constant(3.0, 0.6)  # passes over a rank's rows of hidden width
    all_rows_traffic: float = constant(0.3, 1.0)  # passes over the rows of all ranks
    droop: float = constant(0.02, 1.0)
    small_tile_penalty: float = constant(8.0, 0.7)
    tiling: str = "fastest"  # a key of `TILINGS`, chosen and not fitted


@dataclass(frozen=True)
class MoeShape:
    """Experts of `inter` columns on this rank, fed by `tokens` tokens of all ranks.

    `products_in` is 2 for gated experts and 1 for those without a gate.
    """

    load: ExpertLoad
    weight_bytes: float  # of an element
    row_bytes: float  # of an element of what a grouped GEMM reads
    tokens: FloatArray
    hidden: FloatArray
    inter: FloatArray
    topk: FloatArray
    local_experts: FloatArray
    products_in: int = 2

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def flop(self) -> FloatArray:
        """The products of a row, two FLOP a multiply-add."""
        return 2 * self.load.rows * (self.products_in + 1) * self.hidden * self.inter

    @property
    def traffic_bytes(self) -> FloatArray:
        """Weights of the active experts once, rows in and out."""
        weights = self.load.active * (self.products_in + 1) * self.hidden * self.inter * self.weight_bytes
        return weights + self.load.rows * self.hidden * (2 * self.row_bytes + 2)


def moe_latency(shape: MoeShape, peak_flop_per_s: float, device: DeviceFigures, c: MoeConstants) -> Priced:
    """Latency of the routed experts of the busiest rank in seconds."""
    gate_up = _grouped_gemm(shape, shape.products_in * shape.inter, shape.hidden, peak_flop_per_s, device, c)
    down = _grouped_gemm(shape, shape.hidden, shape.inter, peak_flop_per_s, device, c)
    rate = c.bandwidth_efficiency * device.bandwidth_bytes_per_s
    row_bytes = (
        2 * shape.hidden * (c.row_traffic * shape.load.rows + c.all_rows_traffic * shape.tokens * shape.topk)
    )
    gemms_s = gate_up.total_s + down.total_s
    fixed_s = c.launch_s + c.expert_s * shape.local_experts
    # the droop of the two GEMMs slows the whole kernel sequence
    latency_s = (fixed_s + gemms_s + row_bytes / rate) * (1 + c.droop * np.log1p(gemms_s / DROOP_ONSET_S))
    bound = largest_term(
        launch=fixed_s,
        compute=gate_up.tensor_s + down.tensor_s,
        memory=gate_up.memory_s + down.memory_s + row_bytes / rate,
    )
    return Priced(latency_s, bound, shape, roofline_s(shape, peak_flop_per_s, device))


def _fastest(shape: MoeShape, total_s: FloatArray) -> NDArray[np.intp]:
    return np.asarray(np.argmin(total_s, axis=1))


def _by_tokens(shape: MoeShape, total_s: FloatArray) -> NDArray[np.intp]:
    return np.where(shape.tokens <= _FEW_TOKENS, 0, 1)


#: how the index in `TILE_ROWS` of each call is chosen. `by_tokens` is vLLM's default where it has no file of
#: the device and shape: 16 rows up to 64 tokens, then 64 (`get_default_config` in its fused_moe.py)
TILINGS: dict[str, Callable[[MoeShape, FloatArray], NDArray[np.intp]]] = {
    "fastest": _fastest,
    "by_tokens": _by_tokens,
}


@dataclass(frozen=True)
class _GroupedGemm:
    total_s: FloatArray
    tensor_s: FloatArray
    memory_s: FloatArray


def _grouped_gemm(
    shape: MoeShape, n: FloatArray, k: FloatArray, peak: float, device: DeviceFigures, c: MoeConstants
) -> _GroupedGemm:
    """One grouped GEMM at the tile height that is fastest for it."""
    load = shape.load
    waves = soft_waves(load.tiles * np.ceil(n / _TILE_COLUMNS)[:, None] / device.n_sm, c.wave_softness)
    penalty = np.maximum(c.small_tile_penalty * (1 / TILE_ROWS + 1 / _TILE_COLUMNS - 1 / 64), 0)
    sm_flop_per_s = peak / device.n_sm * c.tensor_efficiency / (1 + penalty)
    tensor_s = waves * 2 * TILE_ROWS * _TILE_COLUMNS * (k[:, None] + c.prologue_k) / sm_flop_per_s
    operands = load.active * n * k * shape.weight_bytes + load.rows * k * shape.row_bytes
    traffic = operands + load.rows * n * _OUTPUT_BYTES
    memory_s = traffic / (c.bandwidth_efficiency * device.bandwidth_bytes_per_s)
    total_s = smooth_max(c.sharpness, tensor_s, np.broadcast_to(memory_s[:, None], tensor_s.shape))
    best = TILINGS[c.tiling](shape, total_s)
    row = np.arange(len(shape))
    return _GroupedGemm(total_s[row, best], tensor_s[row, best], memory_s)


def roofline_s(shape: MoeShape, peak_flop_per_s: float, device: DeviceFigures) -> FloatArray:
    """The plain roofline: peak or bandwidth, whichever binds."""
    return np.maximum(shape.flop / peak_flop_per_s, shape.traffic_bytes / device.bandwidth_bytes_per_s)
