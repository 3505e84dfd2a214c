"""GEMM and batched GEMM: the best of twelve tiles and five split-K factors, each with its slowest resource.

A thread block computes a tile of the output. Tensor time, operand delivery to the SM and DRAM traffic
overlap; a split of K adds a reduction. The operand rate is tied to the tensor rate (operand elements per
FLOP), which carries over between generations better than a rate tied to the clock. Not modelled: alignment,
layouts, fused epilogues.
"""

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Tiling:
    """Tile heights, widths and K splits that a kernel library chooses from, every combination as one axis."""

    tile_m: FloatArray
    tile_n: FloatArray
    split_k: FloatArray

    @classmethod
    def of(cls, tiles: Sequence[tuple[int, int]], splits: Sequence[int]) -> "Tiling":
        """Every tile with every split."""
        sizes, factors = np.array(tiles, np.float64), np.array(splits, np.float64)
        height, width = (np.repeat(sizes[:, axis], len(factors)) for axis in (0, 1))
        return cls(height, width, np.tile(factors, len(sizes)))


_SMALL = [(16, 64), (16, 128), (32, 64), (32, 128), (64, 32), (64, 64), (64, 128), (128, 64), (64, 256)]
_LARGE = [(128, 128), (128, 256), (256, 128)]
#: `any` is a library that tunes over everything; `umma` the 128-row instructions of Blackwell's own kernels;
#: `rows` a vector unit, which takes as many rows as there are
TILINGS = {
    "any": Tiling.of([*_SMALL, *_LARGE], [1, 2, 4, 8, 16]),
    "rows": Tiling.of([(1, 64), (4, 64), *_SMALL, *_LARGE], [1, 2, 4, 8, 16]),
    "umma": Tiling.of([(128, 64), (128, 192), *_LARGE, (256, 256)], [1]),
}
#: products whose input stays in 16 bits
UNQUANTISED = ("bf16", "int8_bf16", "int4_bf16")
_MIN_K_PER_SPLIT = 32
_OUTPUT_BYTES = 2.0
_PARTIAL_SUM_BYTES = 8.0  # an fp32 partial sum is written and read once
_NEVER_S = 1.0
#: rows priced at once: what keeps the (row, configuration) temporaries in the processor's cache
_CHUNK = 1000


@dataclass(frozen=True)
class GemmConstants:
    """What is fitted for one dtype and kernel library on one device."""

    launch_s: float = constant(2.5, 0.4, "us")
    tensor_efficiency: float = constant(0.85, 0.15)  # of a 128 x 128 tile
    small_tile_penalty: float = constant(8.0, 0.6)
    prologue_k: float = constant(150.0, 0.6)  # elements of K that fill the pipeline
    operand_rate: float = constant(0.009, 0.5)  # operand elements delivered per FLOP of peak
    bandwidth_efficiency: float = constant(0.78, 0.1)
    sharpness: float = constant(4.0, 0.4)
    split_s: float = constant(2.0, 0.5, "us")
    l2_share: float = constant(0.4, 0.5)
    l2_speedup: float = constant(3.0, 0.5)
    wave_softness: float = constant(1.0, 0.8)
    droop: float = constant(0.02, 1.0)
    quantize_s: float = constant(1.0, 1.0, "us")
    quantize_bytes: float = constant(3.0, 0.6)  # moved for each element of a 16-bit input that is quantised
    tiling: str = "any"  # a key of `TILINGS`, chosen and not fitted


@dataclass(frozen=True)
class GemmShape:
    """`batch` products of [m, k] by [n, k]; a warm benchmark cycles through `weight_copies` buffers."""

    m: FloatArray
    n: FloatArray
    k: FloatArray
    element_bytes: float
    batch: float | FloatArray = 1.0
    weight_copies: float | FloatArray = 1.0
    quantizes_input: bool = False
    stored_bytes: float = 0.0  # of a weight, where it is not multiplied in what it is stored in

    def __len__(self) -> int:
        return len(self.m)

    @property
    def flop(self) -> FloatArray:
        """Multiply-adds, two FLOP each."""
        return np.asarray(2 * self.batch * self.m * self.n * self.k)

    @property
    def traffic_bytes(self) -> FloatArray:
        """Both operands and the output once."""
        rows = self.m * self.k * self.element_bytes + self.m * self.n * _OUTPUT_BYTES
        return np.asarray(self.weight_bytes + self.batch * rows)

    def rows(self, start: int, stop: int) -> "GemmShape":
        """The shapes from `start` to `stop`."""
        cut = slice(start, stop)
        size = len(self)
        batch, copies = (np.broadcast_to(x, size)[cut] for x in (self.batch, self.weight_copies))
        return GemmShape(
            self.m[cut],
            self.n[cut],
            self.k[cut],
            self.element_bytes,
            batch,
            copies,
            self.quantizes_input,
            self.stored_bytes,
        )

    @property
    def weight_bytes(self) -> FloatArray:
        """Bytes of the weights of a call."""
        return np.asarray(self.batch * self.n * self.k * (self.stored_bytes or self.element_bytes))


def timed_copies(
    n: FloatArray, k: FloatArray, weight_bytes: float, l2_bytes: float, *, fills_cache: FloatArray | bool
) -> FloatArray:
    """Weight buffers that a kernel benchmark cycles through.

    TensorRT-LLM's takes as many as fill the L2 (five at most: `fills_cache`), those of other engines six.
    """
    filling = np.clip(np.ceil(l2_bytes / (n * k * weight_bytes)), 1, 5)
    return np.where(fills_cache, filling, 6.0)


def gemm_latency(
    shape: GemmShape,
    peak_flop_per_s: float,
    device: DeviceFigures,
    constants: GemmConstants,
    *,
    cold: bool = True,
) -> Priced:
    """Latency of each GEMM in seconds; `cold` means that weights come from DRAM, as they do while serving."""
    parts = [
        _chunk_latency(shape.rows(i, i + _CHUNK), peak_flop_per_s, device, constants, cold)
        for i in range(0, len(shape), _CHUNK)
    ]
    return Priced(
        np.concatenate([part.latency_s for part in parts]),
        np.concatenate([part.bound for part in parts]),
        shape,
        roofline_s(shape, peak_flop_per_s, device) if cold else None,
    )


def _chunk_latency(
    shape: GemmShape, peak: float, device: DeviceFigures, c: GemmConstants, cold: bool
) -> Priced:
    tensor_s, operand_s = _tile_times(shape, peak / device.n_sm, device.n_sm, c)
    memory_s = _traffic_bytes(shape, device, c, cold) / (
        c.bandwidth_efficiency * device.bandwidth_bytes_per_s
    )
    total_s = smooth_max(c.sharpness, tensor_s, operand_s, np.broadcast_to(memory_s[:, None], tensor_s.shape))
    total_s += _reduction_s(shape, device, c)
    best = np.argmin(total_s, axis=1)
    row = np.arange(len(shape))
    body_s = drooped(total_s[row, best], c.droop)
    bound = largest_term(
        launch=np.full(len(shape), c.launch_s),
        compute=tensor_s[row, best],
        operand=operand_s[row, best],
        memory=memory_s,
    )
    return Priced(c.launch_s + body_s + _quantize_s(shape, device, c), bound)


def _tile_times(
    shape: GemmShape, sm_flop_per_s: float, n_sm: float, c: GemmConstants
) -> tuple[FloatArray, FloatArray]:
    m, n, k = shape.m[:, None], shape.n[:, None], shape.k[:, None]
    tiling = TILINGS[c.tiling]
    tile_m, tile_n, split_k = tiling.tile_m, tiling.tile_n, tiling.split_k
    batch = np.broadcast_to(shape.batch, len(shape))[:, None]
    k_per_split = k / split_k
    waves = soft_waves(batch * np.ceil(m / tile_m) * np.ceil(n / tile_n) * split_k / n_sm, c.wave_softness)
    efficiency = c.tensor_efficiency / (
        1 + np.maximum(c.small_tile_penalty * (1 / tile_m + 1 / tile_n - 1 / 64), -0.3)
    )
    tensor_s = waves * (2 * tile_m * tile_n / (sm_flop_per_s * efficiency)) * (k_per_split + c.prologue_k)
    operand_s = waves * (np.minimum(tile_m, m) + np.minimum(tile_n, n)) * k_per_split
    operand_s /= sm_flop_per_s * c.operand_rate
    operand_s[(split_k > 1) & (k_per_split < _MIN_K_PER_SPLIT)] = _NEVER_S
    return tensor_s, operand_s


def _traffic_bytes(shape: GemmShape, device: DeviceFigures, c: GemmConstants, cold: bool) -> FloatArray:
    """Bytes from DRAM, with those from L2 counted at their higher speed."""
    weight = shape.weight_bytes
    activation = shape.batch * (shape.m * shape.k * shape.element_bytes + shape.m * shape.n * _OUTPUT_BYTES)
    if cold:
        weight_hit: FloatArray | float = 0.0
    else:
        resident = weight * shape.weight_copies + activation
        weight_hit = cache_hit(resident, c.l2_share * device.l2_bytes, 4)
    hit = cache_hit(np.asarray(activation), 0.5 * device.l2_bytes, 2)
    from_cache = weight * weight_hit + activation * hit
    return np.asarray(weight * (1 - weight_hit) + activation * (1 - hit) + from_cache / c.l2_speedup)


def _reduction_s(shape: GemmShape, device: DeviceFigures, c: GemmConstants) -> FloatArray:
    split_k = TILINGS[c.tiling].split_k
    bytes_per_split = _PARTIAL_SUM_BYTES * np.asarray(shape.batch * shape.m * shape.n)[:, None] * split_k
    rate = c.l2_speedup * c.bandwidth_efficiency * device.bandwidth_bytes_per_s
    return np.where(split_k > 1, c.split_s + bytes_per_split / rate, 0.0)


def _quantize_s(shape: GemmShape, device: DeviceFigures, c: GemmConstants) -> FloatArray | float:
    """Seconds of quantising a 16-bit input, for benchmarks that do so inside the timed call."""
    if not shape.quantizes_input:
        return 0.0
    traffic = shape.m * shape.k * c.quantize_bytes
    hit = cache_hit(traffic, 0.5 * device.l2_bytes, 2)
    rate = c.bandwidth_efficiency * device.bandwidth_bytes_per_s
    return np.asarray(c.quantize_s + traffic * (1 - hit + hit / c.l2_speedup) / rate)


def roofline_s(shape: GemmShape, peak_flop_per_s: float, device: DeviceFigures) -> FloatArray:
    """The plain roofline: peak or bandwidth, whichever binds, and nothing else."""
    return np.maximum(shape.flop / peak_flop_per_s, shape.traffic_bytes / device.bandwidth_bytes_per_s)
