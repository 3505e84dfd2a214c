"""Work, blocks and steps of the kernels that `marching` prices: one function a kernel."""

import numpy as np

from simulator.costs.estimates import FloatArray
from simulator.costs.marching import MarchShape

SCAN_CHUNK = 64.0
_STATE_BYTES = 4.0
_CONV_TOKENS = 8.0  # of a block, in the Triton kernel that vLLM, SGLang and TensorRT-LLM share
_CONV_CHANNELS = 256.0
_SCORE_ROWS = 256.0  # query rows of a block, over heads
_KEYS_A_STEP = 128.0
_SCORE_BYTES = 4.0
_CHOSEN_A_STEP = 64.0
_HEADS_A_BLOCK = 64.0
LATENT_DIMS = (576.0, 512.0)  # of a key and of a value
_SELECTED_A_STEP = 1024.0
_QUANTIZED_A_STEP = 1024.0


def delta_rule_shape(
    batch: FloatArray,
    new: FloatArray,
    key_heads: FloatArray,
    value_heads: FloatArray,
    key_dim: FloatArray,
    value_dim: FloatArray,
) -> MarchShape:
    """Chunks of the gated delta rule one after another; a single token is a step of one chunk.

    FLOP of a chunk: products of keys, the inverse of the triangle, values, states and outputs
    (Gated DeltaNet, arXiv 2412.06464, section 3.3).
    """
    steps = np.ceil(new / SCAN_CHUNK)
    # a token alone has no products between tokens
    within = np.where(new > 1, 2 * SCAN_CHUNK * 5 * key_dim, 0.0)
    flop = batch * value_heads * new * (within + 6 * key_dim * value_dim)
    rows = batch * new * (2 * key_heads * key_dim + 2 * value_heads * value_dim) * 2
    states = 2 * batch * value_heads * key_dim * value_dim * _STATE_BYTES
    return MarchShape(flop, rows + states, batch * value_heads, steps)


def conv_shape(batch: FloatArray, new: FloatArray, channels: FloatArray, width: FloatArray) -> MarchShape:
    """A causal convolution over the last `width` tokens of each channel, in 16 bits, with its state."""
    flop = 2 * batch * new * channels * width
    traffic = 2 * batch * channels * (2 * new + 2 * (width - 1))
    blocks = batch * np.ceil(new / _CONV_TOKENS) * np.ceil(channels / _CONV_CHANNELS)
    return MarchShape(flop, traffic, blocks, np.ones_like(flop))


def pairs_of(new: FloatArray, past: FloatArray) -> FloatArray:
    """Query-key pairs of one sequence: each new token sees the past and what came before it."""
    return np.asarray(new * (past + (new + 1) / 2))


def index_score_shape(
    batch: FloatArray,
    new: FloatArray,
    past: FloatArray,
    heads: FloatArray,
    width: FloatArray,
    compression: FloatArray | float = 1.0,
) -> MarchShape:
    """Scores of an indexer in fp8: its heads share one key a token, or one for `compression` tokens."""
    pairs = batch * pairs_of(new, past) / compression
    keys = np.ceil((past + new) / compression)
    traffic = batch * (keys * (width + 4) + new * heads * (width + 4)) + _SCORE_BYTES * pairs
    blocks = batch * np.ceil(new * heads / _SCORE_ROWS)
    return MarchShape(2 * heads * width * pairs, traffic, blocks, np.ceil(keys / _KEYS_A_STEP))


def index_choice_shape(batch: FloatArray, new: FloatArray, past: FloatArray, topk: FloatArray) -> MarchShape:
    """The best `topk` of every row of scores, a row a block."""
    traffic = _SCORE_BYTES * batch * (pairs_of(new, past) + new * topk)
    return MarchShape(
        np.zeros_like(traffic), traffic, batch * new, np.ceil((past + new) / _SELECTED_A_STEP) + 0 * traffic
    )


def sparse_attention_shape(
    batch: FloatArray,
    new: FloatArray,
    past: FloatArray,
    heads: FloatArray,
    topk: FloatArray,
    bytes_per_token: float,
) -> MarchShape:
    """Absorbed attention of every new token to `topk` rows of the latent cache.

    The kernel works on all `topk` places, also where fewer tokens exist. A row that several queries chose
    comes from DRAM once.
    """
    key_dim, value_dim = LATENT_DIMS
    rows = batch * new
    flop = 2 * rows * heads * topk * (key_dim + value_dim)
    read = batch * np.minimum(past + new, new * topk) * bytes_per_token
    traffic = read + rows * heads * (key_dim + value_dim) * 2
    blocks = rows * np.ceil(heads / _HEADS_A_BLOCK)
    return MarchShape(flop, traffic, blocks, np.ceil(topk / _CHOSEN_A_STEP) + 0 * rows)


def quantize_shape(rows: FloatArray, columns: FloatArray, *, writes: bool = True) -> MarchShape:
    """16 bits in and 8 out (or nothing but scales, where it does not write), a row a block."""
    traffic = rows * columns * (3.0 if writes else 2.0)
    return MarchShape(np.zeros_like(traffic), traffic, rows, np.ceil(columns / _QUANTIZED_A_STEP))
