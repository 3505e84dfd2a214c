import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.costs.estimates import BOUNDS
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmConstants, GemmShape, gemm_latency, roofline_s

DEVICE = DeviceFigures("plain", "hopper", 100, 1e9, 50e6, 1e12, {"bf16": 100e12})
PEAK = 100e12
TYPICAL = GemmConstants()
#: no launch, no prologue, no droop, hard maximum, whole waves
IDEAL = GemmConstants(
    launch_s=1e-12,
    tensor_efficiency=1.0,
    small_tile_penalty=1e-12,
    prologue_k=1e-9,
    operand_rate=1e6,
    bandwidth_efficiency=1.0,
    sharpness=400.0,
    split_s=1.0,
    wave_softness=1e-12,
    droop=1e-12,
)


def shape(m: float, n: float, k: float, batch: float = 1.0) -> GemmShape:
    return GemmShape(*(np.array([float(x)]) for x in (m, n, k)), element_bytes=2.0, batch=batch)


def latency(m: float, n: float, k: float, constants: GemmConstants = TYPICAL, batch: float = 1.0) -> float:
    return float(gemm_latency(shape(m, n, k, batch), PEAK, DEVICE, constants).latency_s[0])


def test_a_large_gemm_with_ideal_constants_runs_at_peak() -> None:
    # 50 x 50 tiles of 128 x 128 are 25 waves of 100 SMs: 2 * 6400^3 / 100e12 = 5.24288 ms
    assert latency(6400, 6400, 6400, IDEAL) == pytest.approx(5.24288e-3, rel=2e-3)


def test_a_small_batch_with_ideal_constants_reads_its_weight_at_full_bandwidth() -> None:
    # 1 x 4096 x 4096: 33,554,432 bytes of weight from DRAM; 16,384 of activation from L2 at 3 times the speed
    assert latency(1, 4096, 4096, IDEAL) == pytest.approx((33_554_432 + 16_384 / 3) / 1e12, rel=2e-3)


def test_the_bound_names_what_binds() -> None:
    def bound(m: int) -> str:
        return BOUNDS[int(gemm_latency(shape(m, 4096, 4096), PEAK, DEVICE, IDEAL).bound[0])]

    assert (bound(1), bound(8192)) == ("memory", "compute")


def test_a_warm_weight_is_faster_and_only_while_it_fits_the_cache() -> None:
    def both(n: int) -> tuple[float, float]:
        times = [
            gemm_latency(shape(1, n, 4096), PEAK, DEVICE, GemmConstants(), cold=cold).latency_s[0]
            for cold in (True, False)
        ]
        return float(times[0]), float(times[1])

    cold, warm = both(512)
    assert warm < cold
    cold, warm = both(65536)
    assert warm == pytest.approx(cold, rel=1e-3)


def test_quantising_the_input_costs_a_pass_over_it() -> None:
    plain = shape(4096, 4096, 4096)
    quantising = GemmShape(plain.m, plain.n, plain.k, 2.0, quantizes_input=True)
    constants = GemmConstants()
    extra = (
        gemm_latency(quantising, PEAK, DEVICE, constants).latency_s
        - gemm_latency(plain, PEAK, DEVICE, constants).latency_s
    )
    assert float(extra[0]) > constants.quantize_s


@given(
    m=st.integers(1, 8192),
    n=st.integers(32, 16384),
    k=st.integers(64, 16384),
    batch=st.integers(1, 64),
)
def test_more_work_never_takes_less_time(m: int, n: int, k: int, batch: int) -> None:
    here = latency(m, n, k)
    assert latency(2 * m, n, k) >= here * 0.999
    assert latency(m, 2 * n, k) >= here * 0.999
    assert latency(m, n, 2 * k) >= here * 0.999
    assert latency(m, n, k, batch=float(batch)) >= here * 0.999


@given(m=st.integers(1, 8192), n=st.integers(32, 16384), k=st.integers(64, 16384))
def test_ideal_constants_never_beat_the_roofline_without_cache(m: int, n: int, k: int) -> None:
    weight_only = n * k * 2 / DEVICE.bandwidth_bytes_per_s
    compute_only = 2 * m * n * k / PEAK
    assert latency(m, n, k, IDEAL) >= max(weight_only, compute_only) * 0.999
    assert float(roofline_s(shape(m, n, k), PEAK, DEVICE)[0]) >= max(weight_only, compute_only)


def test_rows_are_priced_alike_in_any_company() -> None:
    m = np.arange(1.0, 2501.0)
    alone = np.array([latency(x, 2048, 1024) for x in m[::500]])
    together = gemm_latency(
        GemmShape(m, 0 * m + 2048, 0 * m + 1024, 2.0), PEAK, DEVICE, GemmConstants()
    ).latency_s
    np.testing.assert_allclose(together[::500], alone, rtol=1e-12)
