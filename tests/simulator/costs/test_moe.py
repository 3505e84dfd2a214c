from dataclasses import replace

import numpy as np
import pytest

from simulator.costs.expert_load import expert_load
from simulator.costs.figures import DeviceFigures, element_bytes, product_types
from simulator.costs.moe import MoeConstants, MoeShape, moe_latency

DEVICE = DeviceFigures("plain", "hopper", 132, 1.8e9, 50e6, 4e12, {"bf16": 989e12})


def gpt_oss(tokens: float, dtype: str = "mxfp4_bf16") -> MoeShape:
    """The routed experts of gpt-oss-120b on one device, evenly loaded."""
    t = np.array([float(tokens)])
    stored, multiplied = product_types(dtype)
    load = expert_load(t, 128, 4, 1, "balanced")
    dims = (0 * t + size for size in (2880, 2880, 4, 128))
    return MoeShape(load, element_bytes(stored), element_bytes(multiplied), t, *dims)


def latency_s(shape: MoeShape) -> float:
    return float(moe_latency(shape, 989e12, DEVICE, MoeConstants()).latency_s[0])


def test_weights_are_read_in_their_own_bytes_and_rows_in_theirs() -> None:
    # 32 tokens x 4 experts = 128 rows, one an expert. Weights: 128 x 3 x 2880 x 2880 x 17/32 bytes;
    # rows: 128 x 2880 x (in twice, 2 bytes each, and out once in 2)
    assert gpt_oss(32).traffic_bytes[0] == 128 * 3 * 2880**2 * 17 / 32 + 128 * 2880 * 6
    # mxfp8 rows are 33/32 bytes an element
    assert gpt_oss(32, "mxfp4_mxfp8").traffic_bytes[0] == pytest.approx(
        128 * 3 * 2880**2 * 17 / 32 + 128 * 2880 * (2 * 33 / 32 + 2)
    )


def test_the_work_does_not_depend_on_how_weights_are_stored() -> None:
    assert gpt_oss(32).flop[0] == gpt_oss(32, "bf16").flop[0] == 2 * 128 * 3 * 2880**2


def test_experts_in_4_bits_take_about_a_quarter_of_the_time_of_16_where_weights_bind() -> None:
    launch = MoeConstants().launch_s + 128 * MoeConstants().expert_s
    narrow, wide = (latency_s(gpt_oss(128, dtype)) - launch for dtype in ("mxfp4_bf16", "bf16"))
    assert narrow / wide == pytest.approx(17 / 64, rel=0.1)


def test_a_library_that_picks_tiles_by_tokens_takes_the_next_height_beyond_64() -> None:
    # 65 tokens fill one tile of 16 rows an expert as 64 do, and pay for one of 64 rows
    few, more = gpt_oss(64, "bf16"), gpt_oss(65, "bf16")
    by_tokens = MoeConstants(tensor_efficiency=0.01, tiling="by_tokens")  # tensor time binds
    step, none = (
        float(moe_latency(more, 989e12, DEVICE, c).latency_s[0])
        / float(moe_latency(few, 989e12, DEVICE, c).latency_s[0])
        for c in (by_tokens, replace(by_tokens, tiling="fastest"))
    )
    assert none == pytest.approx(1.0, abs=0.05)
    assert step > 1.5


def test_more_tokens_never_take_less_time() -> None:
    times = [latency_s(gpt_oss(2.0**power)) for power in range(16)]
    assert times == sorted(times)
