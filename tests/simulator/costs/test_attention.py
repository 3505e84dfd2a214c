import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.costs.decode import (
    DecodeConstants,
    DecodeShape,
    decode_latency,
    mla_decode_shape,
    windowed_context,
)
from simulator.costs.figures import DeviceFigures
from simulator.costs.prefill import PrefillConstants, PrefillShape, mla_prefill_shape, prefill_latency

DEVICE = DeviceFigures("plain", "hopper", 132, 1.8e9, 50e6, 4e12, {"bf16": 989e12})
PEAK = 989e12


def arrays(*values: float) -> list[np.ndarray]:
    return [np.array([float(value)]) for value in values]


def prefill(batch: float, isl: float, heads: float, window: float = 0, past: float = 0) -> PrefillShape:
    b, s, h, w = arrays(batch, isl, heads, window)
    return PrefillShape(b, s, h, h, 0 * b + 128, 0 * b + 128, w, 2.0, np.array([float(past)]))


def prefill_s(shape: PrefillShape) -> float:
    return float(prefill_latency(shape, PEAK, DEVICE, PrefillConstants()).latency_s[0])


def decode_s(shape: DecodeShape, *, cold: bool = True) -> float:
    return float(decode_latency(shape, PEAK, DEVICE, DecodeConstants(), cold=cold).latency_s[0])


def test_causal_pairs_are_counted_exactly() -> None:
    # 4 tokens, full: 1 + 2 + 3 + 4 = 10 pairs; window 2: 1 + 2 + 2 + 2 = 7; after 3 past: 10 + 4 * 3 = 22
    per_pair = 2 * 1 * 256
    assert prefill(1, 4, 1).flop[0] == 10 * per_pair
    assert prefill(1, 4, 1, window=2).flop[0] == 7 * per_pair
    assert prefill(1, 4, 1, past=3).flop[0] == 22 * per_pair


def test_a_window_shorter_than_the_chunk_hides_the_past() -> None:
    assert prefill_s(prefill(1, 2048, 16, window=1024, past=8192)) == prefill_s(
        prefill(1, 2048, 16, window=1024)
    )


def test_a_chunk_after_a_past_costs_more_than_one_without() -> None:
    assert prefill_s(prefill(1, 2048, 16, past=8192)) > 4 * prefill_s(prefill(1, 2048, 16))


def test_a_window_saves_time() -> None:
    assert prefill_s(prefill(1, 16384, 16, window=1024)) < 0.3 * prefill_s(prefill(1, 16384, 16))


def test_a_past_is_read_in_the_bytes_of_its_cache() -> None:
    # 2 heads x (128 + 128) features x 1000 past tokens, in 2 bytes and in 1
    b, s, h = arrays(1, 1, 2)
    for size in (2.0, 1.0):
        dims = (b, s, h, h, 0 * b + 128, 0 * b + 128, 0 * b, size)
        past = PrefillShape(*dims, np.array([1000.0])).traffic_bytes - PrefillShape(*dims).traffic_bytes
        assert past[0] == 2 * 256 * 1000 * size


@pytest.mark.parametrize(
    ("context", "window", "seen"),
    [
        (5000, 0, 5000),  # full attention
        (5000, 4096, 4096),  # a long window hides what is before it
        (1000, 4096, 1000),
        (5000, 128, 256),  # a short one touches whole blocks: 128 tokens and those up to the borders
        (200, 128, 256),  # 200 tokens are four blocks of 64
        (30, 128, 64),
        (5000, 512, 640),
    ],
)
def test_a_short_window_is_read_in_whole_blocks(context: int, window: int, seen: int) -> None:
    assert windowed_context(np.array([float(context)]), window).tolist() == [seen]


def test_mla_attends_naively_in_192_and_128_and_absorbed_in_576_and_512() -> None:
    one, isl, heads = arrays(1, 4, 2)
    assert mla_prefill_shape(one, isl, heads).flop[0] == 2 * 2 * 320 * 10
    assert mla_prefill_shape(one, isl, heads, absorbed=True).flop[0] == 2 * 2 * 1088 * 10


def test_mla_decode_reads_one_latent_row_a_token_for_all_heads() -> None:
    # 2 sequences x 1000 tokens x 576 x 2 bytes, and 2 x 16 heads x (576 + 512) x 2 bytes in and out
    shape = mla_decode_shape(*arrays(2, 1000, 16), 2.0)
    assert shape.traffic_bytes[0] == 2 * 1000 * 1152 + 2 * 16 * 1088 * 2


@given(batch=st.integers(1, 256), context=st.integers(1, 100_000), heads=st.sampled_from([1, 8, 16, 128]))
def test_more_context_and_more_sequences_never_take_less_time(batch: int, context: int, heads: int) -> None:
    here = decode_s(mla_decode_shape(*arrays(batch, context, heads), 2.0))
    assert decode_s(mla_decode_shape(*arrays(batch, 2 * context, heads), 2.0)) >= here * 0.98
    assert decode_s(mla_decode_shape(*arrays(2 * batch, context, heads), 2.0)) >= here * 0.98


@given(batch=st.integers(1, 64), isl=st.integers(1, 16384), heads=st.sampled_from([1, 8, 16, 128]))
def test_longer_prompts_never_take_less_time(batch: int, isl: int, heads: int) -> None:
    assert prefill_s(prefill(batch, 2 * isl, heads)) >= prefill_s(prefill(batch, isl, heads)) * 0.98


def test_a_cold_cache_is_slower_than_a_warm_one() -> None:
    shape = mla_decode_shape(*arrays(8, 1000, 16), 2.0)
    assert decode_s(shape) > decode_s(shape, cold=False)


def test_fp8_cache_halves_the_time_of_a_bandwidth_bound_decode() -> None:
    wide, narrow = (decode_s(mla_decode_shape(*arrays(512, 32768, 1), size)) for size in (2.0, 1.0))
    assert narrow / wide == pytest.approx(0.5, rel=0.1)
