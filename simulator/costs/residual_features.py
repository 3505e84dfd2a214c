"""Where a call lies in the space of shapes, as the residual measures it: one row of coordinates a call.

Coordinates are logarithms (base 2) of the dimensions and of what the formulas make of them (waves of thread
blocks, how full the last one is, traffic, rows an expert), each divided by the distance over which a
kernel's error changes. They depend on the shape and the datasheet alone, so a call has the same correction
whether its operands are warm or cold. The distances were chosen on the `choose` sites.
"""

from collections.abc import Callable

import numpy as np

from simulator.costs.collectives import ExchangeShape
from simulator.costs.decode import DecodeShape
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmShape
from simulator.costs.marching import MarchShape
from simulator.costs.moe import MoeShape
from simulator.costs.prefill import PrefillShape

_BLOCK = 128.0
#: rows and columns
_TILES = ((64, 128), (128, 128), (128, 192), (128, 256))
_TILE_ROWS_INDEX = 1  # of 64 rows, the middle of the tile heights
_LONGEST = 65536.0


def _unfilled(waves: FloatArray) -> FloatArray:
    """Octaves by which whole waves exceed the fraction of one that is needed; 0 up to a full device."""
    return np.where(waves <= 1, 0.0, np.log2(np.ceil(waves) / waves))


def _gemm(shape: GemmShape, device: DeviceFigures) -> FloatArray:
    m, n = shape.m, shape.n
    batch = np.broadcast_to(np.asarray(shape.batch, np.float64), m.shape)

    def waves(rows: float, columns: float) -> FloatArray:
        return np.asarray(batch * np.ceil(m / rows) * np.ceil(n / columns) / device.n_sm)

    tall = waves(_BLOCK, _BLOCK)
    dims = np.log2([m, n, shape.k, batch]) / 2.5
    # how full the last wave is with each of the tiles that kernels choose from
    unfilled = [_unfilled(waves(*tile)) / 1.2 for tile in _TILES]
    padded = [np.minimum(np.log2(np.ceil(m / rows) * rows / m), 1) / 1.6 for rows in (_BLOCK / 2, _BLOCK)]
    vector = np.where(m == 1, 1.2, 0.0)  # a product by a vector has a kernel of its own
    return np.column_stack([*dims, np.log2(tall) / 1.6, *unfilled, *padded, vector])


def _prefill(shape: PrefillShape, device: DeviceFigures) -> FloatArray:
    tiles = shape.batch * shape.heads * np.ceil(shape.isl / _BLOCK) / device.n_sm
    width = shape.query_dim + shape.value_dim
    dims = [shape.batch, shape.isl, shape.heads, shape.heads / shape.kv_heads, width]
    window = np.minimum(np.where(shape.window > 0, shape.window, _LONGEST), _LONGEST)
    past = 1 + shape.past_span / shape.isl  # no table has any: the correction fades
    work = [window, past, shape.flop, shape.traffic_bytes, tiles]
    return np.column_stack([np.log2([*dims, *work]).T / 4, _unfilled(tiles) / 3])


def _decode(shape: DecodeShape, device: DeviceFigures) -> FloatArray:
    blocks = shape.batch * shape.kv_heads
    dims = [shape.batch, shape.bytes_per_token, shape.traffic_bytes]
    wide = [shape.heads, shape.heads / shape.kv_heads, shape.flop]
    # kernels change how they split the cache at a number of blocks or of tokens, so these are measured finer
    split = [np.log2(blocks) / 1.5, np.log2(shape.context) / 2, _unfilled(blocks / device.n_sm) / 2]
    return np.column_stack([np.log2(dims).T / 4, np.log2(wide).T / 8, *split])


def _moe(shape: MoeShape, device: DeviceFigures) -> FloatArray:
    load = shape.load
    tiles = load.tiles[:, _TILE_ROWS_INDEX] * np.ceil(shape.hidden / _BLOCK) / device.n_sm
    dims = [shape.tokens, shape.hidden, shape.inter, shape.topk, shape.local_experts]
    work = [load.rows, load.active, load.rows / load.active, shape.flop, shape.traffic_bytes, tiles]
    gate = np.full(len(shape), 2 - shape.products_in)  # no kernel is timed both with a gate and without
    return np.column_stack([np.log2([*dims, *work]).T / 4, gate])


def _march(shape: MarchShape, device: DeviceFigures) -> FloatArray:
    work = np.log2([np.maximum(shape.flop, 1.0), shape.traffic_bytes]).T / 4
    waves = shape.blocks / device.n_sm
    return np.column_stack([work, np.log2([waves, shape.steps]).T / 3, _unfilled(waves) / 2])


def _exchange(shape: ExchangeShape, device: DeviceFigures) -> FloatArray:
    n_sm = np.broadcast_to(np.asarray(shape.n_sm, np.float64), shape.tokens.shape)
    a_token = np.log2(shape.wire_bytes / shape.tokens)
    return np.column_stack([np.log2(shape.tokens) / 1.5, a_token / 3, np.log2(n_sm)])


_COORDINATES: dict[type, Callable[..., FloatArray]] = {
    GemmShape: _gemm,
    PrefillShape: _prefill,
    DecodeShape: _decode,
    MoeShape: _moe,
    MarchShape: _march,
    ExchangeShape: _exchange,
}


def coordinates(shape: object, device: DeviceFigures) -> FloatArray | None:
    """Coordinates of each call, [calls, coordinates]; None for kernels that have no residual."""
    kind = _COORDINATES.get(type(shape))
    return kind(shape, device) if kind else None
