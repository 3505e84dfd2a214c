"""Decode attention: split-KV kernels over multi-head, grouped-query and latent (MLA) caches.

Each sequence and KV head is one thread block, or several when the cache is split; a split adds a combine.
In MLA all query heads share one latent row of 576 elements a token, of which 512 are also the values. Not
modelled: paging granularity, prefix sharing (cascade), kernels that leave packing at very large groups.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.numerics import Priced, cache_hit, constant, largest_term, soft_waves

_SPLITS = np.array([1, 2, 4, 8, 16, 32, 64, 128], np.float64)
_ROWS_PER_BLOCK = 64.0  # query rows that share a KV block
_TOKENS_PER_BLOCK = 64.0
_MIN_TOKENS_PER_SPLIT = 32.0
_TOKENS_ACROSS_BORDERS = 128.0
#: windows up to this many tokens have constants of their own
SHORT_WINDOW = 512
_NEVER_S = 1e6
MLA_QUERY_DIM = 576  # kv_lora_rank + rope
MLA_VALUE_DIM = 512


@dataclass(frozen=True)
class DecodeConstants:
    """What is fitted for one cache kind and dtype on one device."""

    launch_s: float = constant(8.0, 0.4, "us")
    tensor_efficiency: float = constant(0.6, 0.15)
    block_s: float = constant(2.0, 0.7, "us")
    row_share: float = constant(0.5, 1.0)  # more block time for a full block of query rows, in `block_s`
    bandwidth_efficiency: float = constant(0.85, 0.08)
    unhidden_share: float = constant(0.2, 0.7)  # of the shorter of tensor and memory time
    group_padding: float = constant(16.0, 0.5)
    operand_rate: float = constant(0.02, 0.6)  # cache bytes delivered per FLOP of peak
    l2_share: float = constant(0.5, 0.4)
    l2_speedup: float = constant(2.5, 0.4)
    combine_s: float = constant(2.0, 0.6, "us")
    combine_split_s: float = constant(0.03, 1.0, "us")  # for each partial result that is combined
    wave_softness: float = constant(1.0, 0.8)


@dataclass(frozen=True)
class DecodeShape:
    """`batch` sequences of one new token over `context` cached tokens (the new one included)."""

    batch: FloatArray
    context: FloatArray
    heads: FloatArray
    kv_heads: FloatArray
    query_dim: FloatArray
    value_dim: FloatArray
    bytes_per_token: FloatArray  # of one KV head

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def traffic_bytes(self) -> FloatArray:
        """Cache read once, queries in, outputs out."""
        rows = self.batch * self.heads * (self.query_dim + self.value_dim) * 2
        return self.batch * self.kv_heads * self.context * self.bytes_per_token + rows

    @property
    def flop(self) -> FloatArray:
        """Multiply-adds of scores and values, two FLOP each."""
        return 2 * self.batch * self.heads * self.context * (self.query_dim + self.value_dim)


def windowed_context(context: FloatArray, window: ArrayLike) -> FloatArray:
    """Tokens that a kernel works on where a query sees the last `window` of `context`, or all for 0.

    A window up to `SHORT_WINDOW` is read in whole blocks and lies across their borders.
    """
    width = np.asarray(window)
    touched = np.minimum(context, width + _TOKENS_ACROSS_BORDERS)
    in_blocks = np.ceil(touched / _TOKENS_PER_BLOCK) * _TOKENS_PER_BLOCK
    seen = np.where(width > SHORT_WINDOW, np.minimum(context, width), in_blocks)
    return np.where(width == 0, context, seen)


def mla_decode_shape(
    batch: FloatArray, context: FloatArray, heads: FloatArray, kv_bytes: float
) -> DecodeShape:
    """The absorbed form: one latent KV head shared by all query heads."""
    one = np.ones_like(batch)
    return DecodeShape(
        batch, context, heads, one, MLA_QUERY_DIM * one, MLA_VALUE_DIM * one, MLA_QUERY_DIM * kv_bytes * one
    )


def decode_latency(
    shape: DecodeShape,
    peak_flop_per_s: float,
    device: DeviceFigures,
    c: DecodeConstants,
    *,
    cold: bool = True,
) -> Priced:
    """Latency of each decode attention in seconds; `cold` means that the cache comes from DRAM."""
    tensor_s, operand_s, overhead_s = _block_times(shape, peak_flop_per_s / device.n_sm, device.n_sm, c)
    memory_s = _memory_s(shape, device, c, cold)
    busy_s = overhead_s + np.maximum(tensor_s, operand_s)
    total_s = _combined(busy_s, memory_s[:, None], c) + _combine_s(shape, device, c)
    total_s[(_SPLITS > 1) & (shape.context[:, None] / _SPLITS < _MIN_TOKENS_PER_SPLIT)] = _NEVER_S
    best = np.argmin(total_s, axis=1)
    row = np.arange(len(shape))
    bound = largest_term(
        launch=c.launch_s + overhead_s[row, best],
        compute=tensor_s[row, best],
        operand=operand_s[row, best],
        memory=memory_s,
    )
    floor_s = roofline_s(shape, peak_flop_per_s, device) if cold else None
    return Priced(c.launch_s + total_s[row, best], bound, shape, floor_s)


def _block_times(
    shape: DecodeShape, sm_flop_per_s: float, n_sm: float, c: DecodeConstants
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Tensor, operand-delivery and fixed time of the blocks, for each number of splits."""
    group = shape.heads / shape.kv_heads
    blocks = shape.batch * shape.kv_heads * np.ceil(group / _ROWS_PER_BLOCK)
    padding = min(c.group_padding, _ROWS_PER_BLOCK)
    rows = np.where(group >= _ROWS_PER_BLOCK, _ROWS_PER_BLOCK, np.maximum(group, padding))[:, None]
    context = shape.context[:, None]
    tokens = np.minimum(
        np.ceil(context / _SPLITS / _TOKENS_PER_BLOCK) * _TOKENS_PER_BLOCK, np.ceil(context / 16) * 16
    )
    waves = soft_waves(blocks[:, None] * _SPLITS / n_sm, c.wave_softness)
    dims = (shape.query_dim + shape.value_dim)[:, None]
    tensor_s = waves * 2 * rows * tokens * dims / (sm_flop_per_s * c.tensor_efficiency)
    operand_s = waves * tokens * shape.bytes_per_token[:, None] / (sm_flop_per_s * c.operand_rate)
    filled = np.minimum(group, _ROWS_PER_BLOCK)[:, None] / _ROWS_PER_BLOCK
    return tensor_s, operand_s, waves * c.block_s * (1 + c.row_share * filled)


def _memory_s(shape: DecodeShape, device: DeviceFigures, c: DecodeConstants, cold: bool) -> FloatArray:
    traffic = shape.traffic_bytes
    hit = np.zeros_like(traffic) if cold else cache_hit(traffic, c.l2_share * device.l2_bytes, 4)
    rate = c.bandwidth_efficiency * device.bandwidth_bytes_per_s
    return traffic * ((1 - hit) + hit / c.l2_speedup) / rate


def _combined(busy_s: FloatArray, memory_s: FloatArray, c: DecodeConstants) -> FloatArray:
    unhidden = min(c.unhidden_share, 1.0)
    return np.maximum(busy_s, memory_s) + unhidden * np.minimum(busy_s, memory_s)


def _combine_s(shape: DecodeShape, device: DeviceFigures, c: DecodeConstants) -> FloatArray:
    partial_bytes = (8 * shape.batch * shape.heads * shape.value_dim)[:, None] * _SPLITS
    rate = c.l2_speedup * c.bandwidth_efficiency * device.bandwidth_bytes_per_s
    return np.where(_SPLITS > 1, c.combine_s + c.combine_split_s * _SPLITS + partial_bytes / rate, 0.0)


def roofline_s(shape: DecodeShape, peak_flop_per_s: float, device: DeviceFigures) -> FloatArray:
    """The plain roofline: peak or bandwidth, whichever binds."""
    return np.maximum(shape.flop / peak_flop_per_s, shape.traffic_bytes / device.bandwidth_bytes_per_s)
