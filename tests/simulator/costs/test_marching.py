from dataclasses import replace

import numpy as np
import pytest

from hardware_specs.library import load_system
from simulator.costs import march_shapes
from simulator.costs.figures import DeviceFigures
from simulator.costs.marching import MarchConstants, MarchShape, march_latency

DEVICE = DeviceFigures.from_system(load_system("h200_sxm"))
PLAIN = MarchConstants(launch_s=2e-6, block_s=1e-6, step_s=5e-7, blocks_per_sm=1.0, sharpness=50.0)


def shape(flop: float = 1.0, traffic: float = 1.0, blocks: float = 1.0, steps: float = 1.0) -> MarchShape:
    return MarchShape(*(np.array([x]) for x in (flop, traffic, blocks, steps)))


def latency(of: MarchShape, constants: MarchConstants = PLAIN, *, cold: bool = True) -> float:
    return float(march_latency(of, 1e15, DEVICE, constants, cold=cold).latency_s[0])


def test_a_march_is_its_launch_its_block_and_its_steps() -> None:
    # one block of 20 steps: 2 us + 1 us + 20 x 0.5 us
    assert latency(shape(steps=20)) == pytest.approx(13e-6, rel=1e-3)
    # 132 SMs, two waves of 264 blocks
    assert latency(shape(blocks=264, steps=20)) == pytest.approx(2e-6 + 2 * 11e-6, rel=1e-3)


def test_the_slowest_of_march_products_and_traffic_counts() -> None:
    rate = PLAIN.bandwidth_efficiency * DEVICE.bandwidth_bytes_per_s
    assert latency(shape(traffic=1e9)) == pytest.approx(2e-6 + 1e9 / rate, rel=1e-3)
    assert latency(shape(flop=1e12)) == pytest.approx(2e-6 + 1e12 / (1e15 * 0.5), rel=1e-3)


def test_warm_operands_that_fit_the_cache_take_less_time_and_others_no_less() -> None:
    small, large = shape(traffic=DEVICE.l2_bytes / 20), shape(traffic=DEVICE.l2_bytes * 100)
    fast = replace(PLAIN, launch_s=1e-9, block_s=1e-9, step_s=1e-9)
    assert latency(small, fast, cold=False) < 0.8 * latency(small, fast)
    assert latency(large, fast, cold=False) == pytest.approx(latency(large, fast), rel=1e-3)


def test_a_chunk_of_the_delta_rule_has_the_products_of_the_graph() -> None:
    ones = [np.array([x]) for x in (1.0, 32768.0, 16.0, 64.0, 128.0, 128.0)]
    of = march_shapes.delta_rule_shape(*ones)
    # 64 heads, 32,768 tokens: 5 products of a token with its chunk's 64, 6 with the 128 x 128 state
    assert of.flop[0] == 64 * 32768 * (2 * 64 * 5 * 128 + 6 * 128 * 128)
    assert (of.blocks[0], of.steps[0]) == (64, 512)


def test_a_convolution_reads_and_writes_its_rows_and_its_state() -> None:
    of = march_shapes.conv_shape(*(np.array([x]) for x in (4.0, 1.0, 512.0, 4.0)))
    # 4 sequences, 512 channels, 2 bytes: a token in and out, three of state in and out
    assert of.traffic_bytes[0] == 4 * 512 * 2 * (2 + 6)
    assert of.blocks[0] == 4 * 2


def test_scores_of_an_indexer_count_the_pairs_of_causal_attention() -> None:
    # 4 new tokens after 10: 11 + 12 + 13 + 14 keys
    assert march_shapes.pairs_of(np.array([4.0]), np.array([10.0]))[0] == 50
    batch, new, past, heads, width = (np.array([x]) for x in (2.0, 4.0, 10.0, 64.0, 128.0))
    assert march_shapes.index_score_shape(batch, new, past, heads, width).flop[0] == 2 * 2 * 64 * 128 * 50


def test_sparse_attention_works_on_all_chosen_places_and_reads_a_row_once() -> None:
    one = np.array([1.0])
    few = march_shapes.sparse_attention_shape(one, 8 * one, 0 * one, 128 * one, 2048 * one, 656.0)
    many = march_shapes.sparse_attention_shape(one, 8 * one, 1e5 * one, 128 * one, 2048 * one, 656.0)
    assert few.flop[0] == many.flop[0] == 2 * 8 * 128 * 2048 * (576 + 512)
    queries = 8 * 128 * (576 + 512) * 2
    assert few.traffic_bytes[0] == 8 * 656 + queries
    assert many.traffic_bytes[0] == 8 * 2048 * 656 + queries
    assert few.blocks[0] == 16
