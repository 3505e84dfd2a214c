from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hardware_specs.library import load_system
from simulator.costs import gemm
from simulator.costs.calibration import CONSTANTS_OF_FAMILY
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmConstants
from simulator.measured import kernel_score
from simulator.measured.kernel_calibrate import Errors, FittedCase, errors_of, pooled, write_device
from simulator.measured.kernel_case import KernelCase, KernelTable, columns_of, with_site
from simulator.measured.kernel_cases import DEVICES, all_cases
from simulator.measured.kernel_map import fit, sampled, soft_l1
from simulator.measured.kernel_split import Part, part_of
from simulator.measured.silicon import is_installed

#: constants of a made-up device, away from the medians of the priors
TRUTH = GemmConstants(launch_s=4e-6, tensor_efficiency=0.7, bandwidth_efficiency=0.9, prologue_k=250.0)


def made_up_case() -> KernelCase:
    """A case whose rows come from `TRUTH`, with 3% of noise and two mistimed rows."""
    device = DeviceFigures.from_system(load_system("h200_sxm"))

    def shape(case: KernelCase, rows: pd.DataFrame) -> gemm.GemmShape:
        return gemm.GemmShape(*columns_of(rows, "m", "n", "k"), element_bytes=2.0)

    def latency(case: KernelCase, of: gemm.GemmShape, constants: GemmConstants) -> np.ndarray:
        return gemm.gemm_latency(of, device.peak("bf16"), device, constants).latency_s

    def rows(case: KernelCase) -> pd.DataFrame:
        rng = np.random.default_rng(1)
        m = 2.0 ** rng.integers(0, 14, 600)
        n, k = (rng.choice([256, 512, 2048, 4096, 8192], 600) for _ in range(2))
        table = with_site(pd.DataFrame({"m": m, "n": n, "k": k}), "n", "k")
        noise = np.exp(0.03 * rng.standard_normal(600))
        noise[:2] = 30.0
        return table.assign(latency_s=latency(case, shape(case, table), TRUTH) * noise)

    table = KernelTable(
        rows, shape, latency, lambda case, of: gemm.roofline_s(of, device.peak("bf16"), device)
    )
    return KernelCase("h200_sxm", "gemm", "bf16", "made_up", (("none", "0"),), table)


def test_a_fit_finds_the_truth_through_noise_and_mistimed_rows() -> None:
    case = made_up_case()
    found = fit(case, case.rows)
    predicted, true = (case.latency_s(case.shape(case.rows), constants) for constants in (found, TRUTH))
    assert np.abs(predicted / true - 1).mean() < 0.01
    assert found.launch_s == pytest.approx(TRUTH.launch_s, rel=0.03)


def test_a_constant_that_the_rows_do_not_show_keeps_its_prior() -> None:
    case = made_up_case()
    few = case.rows[case.rows["m"] <= 2].head(40)
    assert fit(case, few).quantize_s == GemmConstants().quantize_s


def test_a_sample_is_the_same_every_time() -> None:
    rows = made_up_case().rows
    assert sampled(rows, 100).equals(sampled(rows, 100))
    assert len(sampled(rows, 100)) == 100
    assert sampled(rows, 10_000) is rows


def test_the_loss_is_quadratic_near_zero_and_linear_far_out() -> None:
    near, far = soft_l1(np.array([1e-4, -1e-4])), soft_l1(np.array([1.0, 2.0]))
    np.testing.assert_allclose(near, [1e-4, -1e-4], rtol=1e-4)
    assert far[1] ** 2 / far[0] ** 2 == pytest.approx(2, rel=0.05)


def test_an_interval_weighs_sites_alike_and_grows_when_they_are_few() -> None:
    # site a: 90 rows off by 0.1; site b: 10 rows off by 0.5, with half of the weight: the quantile is 0.5
    errors = Errors(np.r_[np.full(90, 0.1), np.full(10, -0.5)], pd.Series(["a"] * 90 + ["b"] * 10))
    assert errors.half_width() == pytest.approx(0.5 * (1 + 1 / 2))


def test_pooled_errors_keep_their_sites() -> None:
    one, two = (Errors(np.array([0.1]), pd.Series([site])) for site in "ab")
    both = pooled([one, two])
    assert (both.n_sites, both.absolute.tolist()) == (2, [np.expm1(0.1)] * 2)


def test_the_split_is_the_fixed_one() -> None:
    # sha256("gemm|512,7168")[:8] and others, modulo 5, worked out apart
    assert part_of("moe", "7168,2048,8,256") is Part.TEST
    parts = [part_of("gemm", f"{n},7168") for n in range(128, 128 * 201, 128)]
    assert 0.12 < parts.count(Part.TEST) / 200 < 0.28
    assert 0.12 < parts.count(Part.CHOOSE) / 200 < 0.28
    assert part_of("gemm", "2112,7168") == part_of("gemm", "2112,7168")


def test_no_test_site_is_fitted() -> None:
    case = made_up_case()
    fitted = FittedCase(case)
    sites = fitted.fit_rows["site"].unique()
    assert {part_of("gemm", site) for site in sites} == {Part.FIT}
    unseen = set(fitted.unseen.site.unique())
    assert Part.TEST not in {part_of("gemm", site) for site in unseen}


def test_a_written_calibration_is_read_back(tmp_path: Path) -> None:
    path = write_device(tmp_path, [FittedCase(made_up_case())])
    text = path.read_text(encoding="utf-8")
    assert "kernel: made_up" in text
    assert "family: bandwidth" in text


def test_every_case_has_constants_and_a_name_of_its_own() -> None:
    cases = all_cases()
    assert len({case.label for case in cases}) == len(cases)
    assert {case.family for case in cases} | {"bandwidth"} == set(CONSTANTS_OF_FAMILY)
    assert {case.device_key for case in cases} == set(DEVICES)


def test_a_score_in_percent_is_a_row_of_the_table() -> None:
    errors = errors_of(replace(made_up_case()), TRUTH, made_up_case().rows)
    scored = kernel_score._scored(made_up_case(), errors, 0.1)
    assert scored.mape < 0.15
    assert scored.coverage > 0.9
    table = kernel_score.accuracy_fragment([scored])
    assert table.count("\n") == 6
    assert "made_up" in table


needs_tables = pytest.mark.skipif(
    not is_installed(), reason="no kernel tables: the extra [silicon] is not installed"
)

#: the physics column of the design's table for unseen sites, in percent: (family, dtype, kernels, most)
BANDS = [
    ("gemm", "bf16", ("cublas",), 9.0),
    ("gemm", "fp8", ("trtllm",), 6.3),
    ("gemm", "fp8_block", ("trtllm",), 8.9),
    ("gemm", "nvfp4", ("vllm", "sglang", "trtllm"), 9.0),
    ("mla_prefill", "bf16", ("trtllm",), 7.4),
    ("mla_decode", "bf16", ("trtllm",), 8.7),
    ("mla_decode", "fp8", ("trtllm",), 11.3),
    ("attention_decode", "bf16", ("vllm_gqa",), 9.6),
    ("attention_decode", "bf16", ("vllm_mha",), 8.0),
    ("attention_prefill", "bf16", ("vllm",), 12.7),
    ("moe", "fp8_block", ("cutlass",), 9.9),
    ("moe", "fp8_block", ("deepgemm",), 10.9),
    ("moe", "fp8_block", ("flashinfer",), 19.1),
    ("moe", "fp8_block", ("triton",), 19.1),
]


@needs_tables
@pytest.mark.slow
@pytest.mark.parametrize(("family", "dtype", "kernels", "most"), BANDS)
def test_unseen_sites_are_met_within_the_band(
    family: str, dtype: str, kernels: tuple[str, ...], most: float
) -> None:
    cases = [c for c in all_cases() if (c.family, c.dtype) == (family, dtype) and c.kernel in kernels]
    scores = [kernel_score.score(case) for case in cases]
    assert 100 * kernel_score.mean_mape(scores, family, dtype, kernels) <= most


@needs_tables
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "n_ranks", "most"),
    [
        ("custom_all_reduce", "4", 13.7),
        ("custom_all_reduce", "8", 15.3),
        ("nccl", "4", 9.1),
        ("nccl", "8", 11.4),
    ],
)
def test_an_unseen_group_size_is_met_within_the_band(family: str, n_ranks: str, most: float) -> None:
    errors = []
    for case in (case for case in all_cases() if case.family == family):
        found = FittedCase(case).test
        of_size = found.absolute[(found.site == n_ranks).to_numpy()]
        errors += [of_size.mean()] if of_size.size else []
    assert 100 * float(np.mean(errors)) <= most
