"""Prefill attention: causal flash attention in 128 x 128 blocks over heads, groups, windows or MLA.

The time is that of the blocks on the SMs, or of the longest query tile, against the traffic of Q, K, V, O
and the cache write. Exponentials run at 16 a clock on each SM. Past tokens (a chunk of a longer prompt) add
whole blocks to every query tile; the constants are fitted without them. Not modelled: packing of sequences
of unequal length.
"""

from dataclasses import dataclass

import numpy as np

from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.numerics import (
    Priced,
    cache_hit,
    constant,
    drooped,
    largest_term,
    smooth_max,
    soft_waves,
)

_BLOCK = 128.0
_EXP_PER_CLOCK = 16.0
_NO_WINDOW = 1e12
MLA_QUERY_DIM = 192
MLA_VALUE_DIM = 128
ABSORBED_DIMS = (576, 512)  # kv_lora_rank + rope, and kv_lora_rank


@dataclass(frozen=True)
class PrefillConstants:
    """What is fitted for one attention kernel on one device."""

    launch_s: float = constant(9.0, 0.4, "us")
    tensor_efficiency: float = constant(0.65, 0.2)
    block_s: float = constant(1.0, 0.7, "us")
    bandwidth_efficiency: float = constant(0.75, 0.1)
    sharpness: float = constant(4.0, 0.15)
    exp_share: float = constant(0.3, 0.8)  # of the exponentials that the tensor work does not hide
    droop: float = constant(0.03, 1.0)
    wave_softness: float = constant(1.0, 0.8)
    l2_speedup: float = constant(2.0, 0.2)
    unhidden_traffic: float = constant(1.0, 0.7)
    tail: float = constant(0.5, 0.8)  # of the longest tile, left over at the end


@dataclass(frozen=True)
class PrefillShape:
    """`batch` sequences of `isl` new tokens after `past` cached ones; `window` 0 is full attention."""

    batch: FloatArray
    isl: FloatArray
    heads: FloatArray
    kv_heads: FloatArray
    query_dim: FloatArray
    value_dim: FloatArray
    window: FloatArray
    kv_element_bytes: float
    past: FloatArray | float = 0.0
    causal: bool = True
    appended_bytes: float = 0.0  # read and written a token by a benchmark that also appends to the cache

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def span(self) -> FloatArray:
        """Tokens that a query at the end sees."""
        return np.minimum(np.where(self.window > 0, self.window, _NO_WINDOW), self.isl)

    @property
    def past_span(self) -> FloatArray:
        """Past tokens that a query sees; a window hides those before it."""
        room = np.where(self.window > 0, np.maximum(self.window - self.isl, 0), _NO_WINDOW)
        return np.minimum(self.past, room)

    @property
    def traffic_bytes(self) -> FloatArray:
        """Q, K, V and O in 16 bits, the cache write, and one read of the past."""
        dims = self.query_dim + self.value_dim
        new_kv = self.kv_heads * dims * (2 + self.kv_element_bytes)
        past_kv = self.kv_heads * dims * self.kv_element_bytes * self.past_span
        per_token = self.heads * dims * 2 + new_kv + self.appended_bytes
        return self.batch * (self.isl * per_token + past_kv)

    @property
    def flop(self) -> FloatArray:
        """Causal (and windowed) score and value products, two FLOP a multiply-add."""
        span = self.span
        pairs = span * (span + 1) / 2 + (self.isl - span) * span + self.isl * self.past_span
        if not self.causal:
            pairs = self.isl * self.isl
        return 2 * self.batch * self.heads * (self.query_dim + self.value_dim) * pairs


def mla_prefill_shape(
    batch: FloatArray,
    isl: FloatArray,
    heads: FloatArray,
    past: FloatArray | float = 0.0,
    *,
    window: int = 0,
    absorbed: bool = False,
    appends: bool = False,
) -> PrefillShape:
    """MLA as multi-head attention: dims 192 and 128 in the naive form, 576 and 512 over the latent cache.

    A choice of as many tokens as a `window` holds (0: all) is taken to cost what the window does.
    With `appends` the call also writes the new latent rows, as TensorRT-LLM's benchmark does.
    """
    query_dim, value_dim = ABSORBED_DIMS if absorbed else (MLA_QUERY_DIM, MLA_VALUE_DIM)
    one = np.ones_like(batch)
    kv_heads = one if absorbed else heads
    dims = (query_dim * one, value_dim * one, window * one)
    appended_bytes = 2 * 2.0 * ABSORBED_DIMS[0] if appends else 0.0
    return PrefillShape(batch, isl, heads, kv_heads, *dims, 2.0, past, appended_bytes=appended_bytes)


def encoder_shape(
    batch: FloatArray, tokens: FloatArray, heads: FloatArray, head_dim: FloatArray
) -> PrefillShape:
    """Attention of every token to every token, multi-head, nothing written to a cache.

    Kernels for head dims of 72 and 80 work on the next multiple of 32.
    """
    padded = np.ceil(head_dim / 32) * 32
    window = np.zeros_like(batch)
    return PrefillShape(batch, tokens, heads, heads, padded, padded, window, 0.0, causal=False)


@dataclass(frozen=True)
class _Tiling:
    n_tiles: FloatArray  # query tiles of one sequence
    blocks_per_tile: FloatArray  # mean KV blocks of a tile
    longest: FloatArray  # KV blocks of the last tile


def _tiling(shape: PrefillShape) -> _Tiling:
    """Query tiles and KV blocks; short sequences pack the heads of a group into one tile."""
    isl, span = shape.isl, shape.span
    packed = isl < _BLOCK
    tiles_per_head = np.ceil(isl / _BLOCK)
    window_blocks = np.minimum(np.ceil(span / _BLOCK), tiles_per_head)
    packed_tiles = shape.kv_heads * np.ceil(isl * shape.heads / shape.kv_heads / _BLOCK)
    n_tiles = np.where(packed, packed_tiles, shape.heads * tiles_per_head)
    triangle = window_blocks * (window_blocks + 1) / 2
    band = (tiles_per_head - window_blocks) * (window_blocks + (span < isl))
    in_order = triangle + band if shape.causal else tiles_per_head**2
    blocks = np.where(packed, n_tiles * tiles_per_head, shape.heads * in_order)
    past_blocks = np.ceil(shape.past_span / _BLOCK)
    longest = np.where(packed, tiles_per_head, window_blocks) + past_blocks
    return _Tiling(n_tiles, blocks / n_tiles + past_blocks, longest)


def prefill_latency(
    shape: PrefillShape, peak_flop_per_s: float, device: DeviceFigures, c: PrefillConstants
) -> Priced:
    """Latency of each prefill attention in seconds."""
    tiling = _tiling(shape)
    mma_s = 2 * (shape.query_dim + shape.value_dim) * device.n_sm / (peak_flop_per_s * c.tensor_efficiency)
    exp_s = c.exp_share / (_EXP_PER_CLOCK * device.clock_hz)
    block_s = _BLOCK * _BLOCK * (mma_s + exp_s)
    waves = soft_waves(shape.batch * tiling.n_tiles / device.n_sm, c.wave_softness)
    compute_s = np.maximum(waves * tiling.blocks_per_tile, tiling.longest) * block_s
    compute_s = compute_s + waves * c.block_s + c.tail * tiling.longest * block_s
    memory_s = _memory_s(shape, device, c)
    body_s = drooped(smooth_max(c.sharpness, compute_s, memory_s) + c.unhidden_traffic * memory_s, c.droop)
    bound = largest_term(launch=np.full(len(shape), c.launch_s), compute=compute_s, memory=memory_s)
    return Priced(c.launch_s + body_s, bound, shape, roofline_s(shape, peak_flop_per_s, device))


def _memory_s(shape: PrefillShape, device: DeviceFigures, c: PrefillConstants) -> FloatArray:
    traffic = shape.traffic_bytes
    hit = cache_hit(traffic, 0.5 * device.l2_bytes, 2)
    rate = c.bandwidth_efficiency * device.bandwidth_bytes_per_s
    return traffic * ((1 - hit) + hit / c.l2_speedup) / rate


def roofline_s(shape: PrefillShape, peak_flop_per_s: float, device: DeviceFigures) -> FloatArray:
    """The plain roofline: peak or bandwidth, whichever binds."""
    return np.maximum(shape.flop / peak_flop_per_s, shape.traffic_bytes / device.bandwidth_bytes_per_s)
