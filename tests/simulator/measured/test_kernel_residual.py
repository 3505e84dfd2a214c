import numpy as np
import pandas as pd
import pytest

from hardware_specs.library import load_system
from simulator.costs import gemm
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmConstants
from simulator.measured.kernel_baselines import fitted_roofline, interpolated, plain_roofline
from simulator.measured.kernel_case import KernelCase, KernelTable, columns_of, with_site
from simulator.measured.kernel_errors import Errors, errors_of
from simulator.measured.kernel_residual import applied, fit_residual

SIZES = (256, 512, 1024, 2048, 4096, 8192)
DEVICE = DeviceFigures.from_system(load_system("h200_sxm"))


def shape_of(case: KernelCase, rows: pd.DataFrame) -> gemm.GemmShape:
    return gemm.GemmShape(*columns_of(rows, "m", "n", "k"), element_bytes=2.0)


def latency_of(case: KernelCase, of: gemm.GemmShape, constants: GemmConstants) -> np.ndarray:
    return gemm.gemm_latency(of, DEVICE.peak("bf16"), DEVICE, constants).latency_s


def case_with(miss: object) -> KernelCase:
    """A sweep of m for each n and k; measured is the formula times exp(miss(m, random))."""

    def rows(case: KernelCase) -> pd.DataFrame:
        rng = np.random.default_rng(3)
        m, n, k = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(14), SIZES, SIZES))
        table = with_site(pd.DataFrame({"m": m, "n": n, "k": k}), "n", "k")
        formula = latency_of(case, shape_of(case, table), GemmConstants())
        return table.assign(latency_s=formula * np.exp(miss(m, rng)))

    def roofline(case: KernelCase, of: gemm.GemmShape) -> np.ndarray:
        return gemm.roofline_s(of, DEVICE.peak("bf16"), DEVICE)

    table = KernelTable(rows, shape_of, latency_of, roofline)
    return KernelCase("h200_sxm", "gemm", "bf16", "made_up", (("none", "0"),), table)


def switched(m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A kernel switch at m = 128 that the formula does not know."""
    return np.where(m >= 128, 0.3, -0.1) + 0.01 * rng.standard_normal(m.size)


def noise(m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.1 * rng.standard_normal(m.size)


def test_a_residual_finds_on_unseen_sites_what_the_formula_misses() -> None:
    case = case_with(switched)
    held = case.rows["n"] == 2048
    residual = fit_residual(case, GemmConstants(), case.rows[~held])
    assert residual is not None
    alone = errors_of(case, GemmConstants(), case.rows[held]).absolute.mean()
    corrected = errors_of(case, GemmConstants(), case.rows[held], residual).absolute.mean()
    assert alone > 0.15
    assert corrected < 0.3 * alone


def test_noise_is_no_residual() -> None:
    case = case_with(noise)
    assert fit_residual(case, GemmConstants(), case.rows) is None


def test_one_site_says_nothing_of_the_next() -> None:
    case = case_with(switched)
    one = case.rows[case.rows["site"] == "512,512"]
    assert fit_residual(case, GemmConstants(), one) is None


def test_what_one_site_alone_does_is_no_residual() -> None:
    """Two sites that are off in opposite ways: each would mislead the other."""
    case = case_with(switched)
    rows = case.rows[case.rows["site"].isin(["512,512", "512,1024"])]
    formula = latency_of(case, shape_of(case, rows), GemmConstants())
    sign = np.where(rows["site"] == "512,512", 0.3, -0.3)
    assert fit_residual(case, GemmConstants(), rows.assign(latency_s=formula * np.exp(sign))) is None


def test_without_a_residual_the_formula_stands() -> None:
    case = case_with(noise)
    correction, half_width = applied(None, case, case.shape(case.rows))
    assert (correction.tolist(), half_width) == ([0.0], None)


def test_an_interval_score_is_the_width_and_twenty_times_what_lies_outside() -> None:
    errors = Errors(np.array([0.05, -0.15]), pd.Series(["a", "b"]))
    assert errors.interval_score(0.1) == pytest.approx((0.2 + 0.2 + 20 * 0.05) / 2)
    assert errors.within(0.1) == 0.5


def test_a_spread_scales_the_conformal_width() -> None:
    site = pd.Series([str(i) for i in range(10)])
    plain = Errors(np.full(10, 0.1), site)
    scaled = Errors(np.full(10, 0.1), site, np.full(10, 0.05))
    assert plain.half_width() == pytest.approx(0.11)
    assert scaled.half_width() == pytest.approx(2.2)


def test_the_fitted_roofline_finds_launch_and_efficiencies() -> None:
    case = case_with(noise)
    peak, rate = DEVICE.peak("bf16"), DEVICE.bandwidth_bytes_per_s
    shape = case.shape(case.rows)
    truth = 4e-6 + np.maximum(shape.flop / (0.7 * peak), shape.traffic_bytes / (0.8 * rate))
    rows = case.rows.assign(latency_s=truth)
    np.testing.assert_allclose(fitted_roofline(case, rows, rows), truth, rtol=1e-3)


def test_interpolation_gives_back_a_measured_row_and_the_share_of_neighbours() -> None:
    case = case_with(noise)
    rows = case.rows.assign(latency_s=2 * plain_roofline(case, case.rows, case.rows))
    held = rows["site"] == "1024,1024"
    np.testing.assert_allclose(interpolated(case, rows[~held], rows[held]), rows[held]["latency_s"])
    np.testing.assert_allclose(interpolated(case, case.rows, case.rows), case.rows["latency_s"], rtol=1e-3)
