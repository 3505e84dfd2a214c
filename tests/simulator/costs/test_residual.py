from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError
from simulator.costs.calibration import shipped_calibrations
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmShape, gemm_latency, roofline_s
from simulator.costs.library import KernelLibrary
from simulator.costs.prefill import PrefillShape
from simulator.costs.residual import MAX_LOG_CORRECTION, Bumps, BumpsFile, Residual, packed
from simulator.costs.residual_features import coordinates


def one_bump(correction: float, log_spread: float = 0.0) -> Residual:
    """A bump at (1, 2) of this height; spreads of 0.05 there and 0.2 far away."""
    centres, weights = np.array([[1, 2]], np.float16), np.array([[correction, log_spread]], np.float32)
    return Residual(Bumps(centres, weights), usual_spread=0.05, far_spread=0.2, factor=2.0)


def test_a_bump_is_a_gaussian_of_the_distance() -> None:
    correction, _ = one_bump(0.3)(np.array([[1.0, 2.0], [2.0, 2.0], [1.0, 4.0]]))
    np.testing.assert_allclose(correction, 0.3 * np.exp([0, -0.5, -2]), atol=1e-6)


def test_far_from_measured_calls_the_formula_stands_alone_with_its_own_spread() -> None:
    correction, half_width = one_bump(0.3)(np.array([[1.0, 2.0], [50.0, 50.0]]))
    assert correction[1] == 0
    np.testing.assert_allclose(half_width, [2 * 0.05, 2 * 0.2], rtol=1e-6)


def test_between_there_and_here_the_interval_grows_with_distance() -> None:
    steps = np.column_stack([1 + np.linspace(0, 4, 30), np.full(30, 2.0)])
    assert np.all(np.diff(one_bump(0.3)(steps)[1]) > 0)


def test_a_correction_is_bounded() -> None:
    for height in (5.0, -5.0):
        correction, _ = one_bump(height)(np.array([[1.0, 2.0]]))
        assert correction[0] == np.sign(height) * MAX_LOG_CORRECTION


def test_a_spread_is_never_below_that_of_the_formula_where_bumps_say_more() -> None:
    _, half_width = one_bump(0.0, log_spread=0.5)(np.array([[1.0, 2.0]]))
    np.testing.assert_allclose(half_width, 2 * 0.05 * np.exp(0.5), rtol=1e-6)


def test_arrays_are_read_back_and_checked_against_their_hash(tmp_path: Path) -> None:
    from hashlib import sha256

    bumps = one_bump(0.3).bumps
    content = packed({"gemm bf16 x": bumps})
    path = tmp_path / "residuals_x.npz"
    path.write_bytes(content)
    found = BumpsFile(path, sha256(content).hexdigest()).get("gemm bf16 x")
    np.testing.assert_array_equal(found.centres, bumps.centres)
    np.testing.assert_array_equal(found.weights, bumps.weights)
    with pytest.raises(InputError, match="sha256"):
        BumpsFile(path, "0" * 64).get("gemm bf16 x")
    with pytest.raises(InputError, match="bumps of gemm fp8 x"):
        BumpsFile(path, sha256(content).hexdigest()).get("gemm fp8 x")


def test_every_residual_that_an_entry_names_is_there_and_finite() -> None:
    found = 0
    for device in shipped_calibrations().devices:
        for entry in device.entries:
            if entry.residual:
                found += 1
                assert np.isfinite(entry.residual.bumps.weights).all(), entry.label
                assert 0 < entry.residual.usual_spread <= entry.residual.far_spread, entry.label
    assert found > 100


def test_what_the_tables_do_not_hold_lies_far_away() -> None:
    device = DeviceFigures.from_system(load_system("h100_sxm"))
    dims = [np.array([float(value)]) for value in (4, 512, 32, 8, 128, 128, 0)]
    new = PrefillShape(*dims, kv_element_bytes=2.0)
    after = replace(new, past=np.array([32768.0]))
    moved = coordinates(after, device) - coordinates(new, device)
    assert np.linalg.norm(moved) > 1
    assert coordinates("a collective", device) is None


def test_coordinates_do_not_know_whether_weights_are_warm() -> None:
    device = DeviceFigures.from_system(load_system("h100_sxm"))
    dims = [np.array([float(value)]) for value in (64, 4096, 7168)]
    cold, warm = GemmShape(*dims, 2.0), GemmShape(*dims, 2.0, weight_copies=5.0, quantizes_input=True)
    np.testing.assert_array_equal(coordinates(cold, device), coordinates(warm, device))


def library(system: str) -> KernelLibrary:
    return KernelLibrary(load_system(system), "vllm")


def test_serving_prices_the_formula_times_the_correction() -> None:
    known = library("h100_sxm")
    entry = shipped_calibrations().device("h100_sxm").get("gemm", "bf16", "cublas")
    m, n, k = np.array([64.0]), np.array([4096.0]), np.array([7168.0])
    formula = gemm_latency(GemmShape(m, n, k, 2.0), known.device.peak("bf16"), known.device, entry.constants)
    correction, half_width = entry.residual(coordinates(GemmShape(m, n, k, 2.0), known.device))
    priced = known.gemm(m, n, k, "bf16")
    np.testing.assert_allclose(priced.latency_s, formula.latency_s * np.exp(correction))
    np.testing.assert_allclose(priced.log_half_width, half_width)
    assert float(known.gemm(64, 4096, 7168, "bf16").latency_s) == pytest.approx(float(priced.latency_s[0]))


def test_no_correction_beats_the_peak_or_the_bandwidth() -> None:
    known = library("rtx_pro_6000")  # whose large cache holds the operands of many timed calls
    m, n, k = (np.exp2(np.random.default_rng(0).uniform(low, 15, 3000)).round() for low in (0, 8, 8))
    shape = GemmShape(m, n, k, 1.0)
    assert np.all(
        known.gemm(m, n, k, "fp8").latency_s > roofline_s(shape, known.device.peak("fp8"), known.device)
    )


def test_constants_that_are_carried_go_without_a_residual() -> None:
    calibrations = shipped_calibrations().without("h100_sxm")
    device = DeviceFigures.from_system(load_system("h100_sxm"))
    assert calibrations.find(device, "gemm", "bf16", ("cublas",)).residual is None
    assert shipped_calibrations().find(device, "gemm", "bf16", ("cublas",)).residual is not None


@pytest.mark.slow
def test_a_hundred_thousand_products_are_priced_within_a_second_or_so() -> None:
    known = library("h100_sxm")
    m = np.exp2(np.random.default_rng(0).uniform(0, 14, 100_000)).round()
    known.gemm(m[:10], 4096, 7168)
    start = perf_counter()
    known.gemm(m, 4096, 7168)
    assert perf_counter() - start < 4  # 1 s alone on a core
