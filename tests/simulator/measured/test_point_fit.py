from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError
from hardware_specs.records.evidence import Grade
from simulator.costs.calibration import Calibrations, calibrations_with, shipped_calibrations
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmConstants
from simulator.costs.library import KernelLibrary
from simulator.measured.calibrate_device import Measured, calibration_text, fits
from simulator.measured.case_points import case_group
from simulator.measured.kernel_cases import all_cases
from simulator.measured.kernel_draw import drawn
from simulator.measured.kernel_errors import errors_of
from simulator.measured.kernel_split import Part
from simulator.measured.point_fit import Draw, PointFit
from simulator.measured.point_groups import PointGroup, trial
from simulator.measured.shape_points import csv_points
from simulator.measured.silicon import is_installed

H200 = load_system("h200_sxm")
DEVICE = DeviceFigures.from_system(H200)
#: a made-up kernel, away from what Hopper's neighbours have
TRUTH = GemmConstants(launch_s=6e-6, tensor_efficiency=0.6, bandwidth_efficiency=0.6, prologue_k=300.0)
KEY = ("gemm", "bf16", "cublas")
HEAD = "id,family,dtype,m,n,k,latency_us\n"


def others() -> Calibrations:
    return shipped_calibrations().without("h200_sxm")


def priced_s(constants: GemmConstants, m: np.ndarray, n: np.ndarray, k: np.ndarray) -> np.ndarray:
    known = others().overlaid(trial(DEVICE, KEY, constants))
    return KernelLibrary(H200, "trtllm", known).gemm(m, n, k, "bf16").latency_s


def written(tmp_path: Path, n_points: int = 30, noise: float = 0.02) -> Path:
    """A CSV of calls of the made-up kernel, with noise."""
    rng = np.random.default_rng(3)
    m = 2.0 ** rng.integers(0, 14, n_points)
    n, k = (2.0 ** rng.integers(8, 14, n_points) for _ in range(2))
    us = 1e6 * priced_s(TRUTH, m, n, k) * np.exp(noise * rng.standard_normal(n_points))
    rows = [f"{i},gemm,bf16,{m[i]:.0f},{n[i]:.0f},{k[i]:.0f},{us[i]:.6f}\n" for i in range(n_points)]
    path = tmp_path / "points.csv"
    path.write_text(HEAD + "".join(rows))
    return path


def fitted(path: Path, *families: str) -> tuple[PointFit, ...]:
    return fits(csv_points(path, H200, "trtllm", others(), cold=True), H200, others(), families)


def test_thirty_points_find_a_made_up_kernel_within_the_noise(tmp_path: Path) -> None:
    (fit,) = fitted(written(tmp_path))
    rng = np.random.default_rng(4)
    m, n, k = 2.0 ** rng.integers(0, 14, 500), *(2.0 ** rng.integers(8, 14, 500) for _ in range(2))
    true_s = priced_s(TRUTH, m, n, k)
    error = np.abs(priced_s(fit.constants, m, n, k) / true_s - 1)
    lent = np.abs(priced_s(fit.prior.constants, m, n, k) / true_s - 1)
    assert error.mean() < 0.03 < 0.1 < lent.mean()  # noise of 2%, thirteen constants
    spread = fit.prior.log_sd["launch_s"]
    assert abs(np.log(fit.constants.launch_s / TRUTH.launch_s)) < spread / 4


def test_the_interval_holds_unseen_calls(tmp_path: Path) -> None:
    (fit,) = fitted(written(tmp_path, noise=0.05))
    rng = np.random.default_rng(5)
    m, n, k = 2.0 ** rng.integers(0, 14, 500), *(2.0 ** rng.integers(8, 14, 500) for _ in range(2))
    measured = priced_s(TRUTH, m, n, k) * np.exp(0.05 * rng.standard_normal(500))
    inside = np.abs(np.log(priced_s(fit.constants, m, n, k) / measured)) <= fit.unseen.half_width()
    assert inside.mean() > 0.85


def test_no_fold_sees_the_site_that_it_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fit,) = fitted(written(tmp_path))
    seen: list[set[str]] = []

    def spy(self: PointFit, index: np.ndarray) -> GemmConstants:
        seen.append({self.group.sites[i] for i in index})
        return TRUTH

    monkeypatch.setattr(PointFit, "_fit", spy)
    fresh = PointFit(fit.group, fit.device, fit.calibrations)
    held = [{fit.group.sites[i] for i in fold} for fold in fresh._folds()]
    assert fresh.unseen.n_sites == len(set(fit.group.sites))
    assert [one & two for one, two in zip(seen, held, strict=True)] == [set()] * 5
    assert fresh.folded_by == "site"


def test_few_sites_are_folded_by_point_and_said(tmp_path: Path) -> None:
    path = tmp_path / "one_site.csv"
    path.write_text(HEAD + "".join(f"{m},gemm,bf16,{m},512,7168,{5 + m / 100}\n" for m in range(1, 12)))
    (fit,) = fitted(path)
    assert fit.folded_by == "point"
    assert "11 points, fewer than 30" in fit.note
    assert "1 sites: cross-validated by point" in fit.note


def test_the_same_points_give_the_same_bytes(tmp_path: Path) -> None:
    measured = Measured("points.csv", "0123")
    path = written(tmp_path)
    one, two = (calibration_text(fitted(path), measured) for _ in range(2))
    assert one == two
    entry = yaml.safe_load(one)["entries"][0]
    assert (entry["n_points"], entry["kind"], entry["source"]) == (30, "fitted", "points.csv, content 0123")


def test_a_written_calibration_stands_over_the_shipped_one_at_grade_b(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(calibration_text(fitted(written(tmp_path)), Measured("points.csv", "0123")))
    own, shipped = (
        KernelLibrary(H200, "trtllm", known).gemm(64, 4096, 4096)
        for known in (calibrations_with(str(path), "h200_sxm"), None)
    )
    assert own.grade is Grade.B
    assert "points.csv" in own.evidence
    assert float(own.latency_s) == pytest.approx(
        float(priced_s(TRUTH, *(np.array([x]) for x in (64.0, 4096.0, 4096.0)))[0]), rel=0.05
    )
    assert float(own.latency_s) > 1.2 * float(shipped.latency_s)


def test_a_calibration_of_another_device_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(calibration_text(fitted(written(tmp_path)), Measured("points.csv", "0123")))
    with pytest.raises(InputError, match="must be the calibration of the system's device, h100_sxm"):
        calibrations_with(str(path), "h100_sxm")


def test_bad_rows_are_named_all_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(HEAD + "1,gemm,bf16,x,1,1,3\n2,gemm,bf16,1,1,1,-3\n3,gem,bf16,1,1,1,\n")
    with pytest.raises(InputError) as caught:
        csv_points(path, H200, "trtllm", others(), cold=True)
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [
        (2, "m"),
        (3, "latency_us"),
        (4, "family"),
        (4, "latency_us"),
    ]


def test_a_kernel_source_names_the_kernel_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sources.csv"
    head = "id,family,dtype,m,n,k,kernel_source,latency_us\n"
    path.write_text(head + "1,gemm,fp8_block,64,512,7168,sglang_deepgemm_gemm_nt_f8f8bf16,9\n")
    (group,) = csv_points(path, H200, "trtllm", others(), cold=True)
    assert group.label == "gemm fp8_block sglang"
    path.write_text(head + "1,gemm,bf16,64,512,7168,my_gemm,9\n")
    with pytest.raises(InputError, match=r"sources.csv:2  kernel_source  must be empty .* given my_gemm"):
        csv_points(path, H200, "trtllm", others(), cold=True)


def test_too_few_points_and_absent_families_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, n_points=3)
    with pytest.raises(InputError) as caught:
        fitted(path, "gemm", "moe", "gemn")
    text = str(caught.value)
    assert "gemm bf16 cublas  needs 5 points at least, and 30 to be sure of; given 3: 2 more" in text
    assert "moe  the file must have points of the family" in text
    assert "did you mean gemm?" in text


def test_repeats_of_a_call_are_one_point_at_their_median(tmp_path: Path) -> None:
    path = tmp_path / "repeats.csv"
    path.write_text(HEAD + "".join(f"{us},gemm,bf16,64,512,7168,{us}\n" for us in (9, 10, 40)))
    (group,) = csv_points(path, H200, "trtllm", others(), cold=True)
    assert group.latency_s.tolist() == pytest.approx([10e-6])


def test_a_draw_takes_one_call_of_each_magnitude_and_spreads_over_sites() -> None:
    expected_s = np.geomspace(1e-6, 1e-2, 1200)
    sites = tuple(str(i % 10) for i in range(1200))
    index = drawn(expected_s, sites, 30, seed=1)
    assert index.tolist() == drawn(expected_s, sites, 30, seed=1).tolist()
    assert index.tolist() != drawn(expected_s, sites, 30, seed=2).tolist()
    # thirty groups of forty calls in order, one of each; ten sites that every group has, three times each
    assert (index // 40).tolist() == list(range(30))
    assert sorted(int(sites[i]) for i in index) == sorted(3 * list(range(10)))


def test_points_that_are_not_drawn_show_how_well_the_drawn_ones_do(tmp_path: Path) -> None:
    groups = csv_points(written(tmp_path, 60), H200, "trtllm", others(), cold=True)
    (fit,) = fits(groups, H200, others(), draw=Draw(30, 0))
    assert fit.left is not None
    assert len(fit.used) + len(fit.left.log_error) == len(groups[0])
    assert fit.left.absolute.mean() < 0.04


@pytest.mark.skipif(not is_installed(), reason="no kernel tables: the extra [silicon] is not installed")
@pytest.mark.parametrize("label", ["gemm bf16 cublas b200_sxm", "attention_decode bf16 vllm_gqa b200_sxm"])
def test_thirty_points_beat_what_other_generations_lend(label: str) -> None:
    case = next(case for case in all_cases() if case.label == label)
    group: PointGroup = case_group(case, case.fit_rows)
    older = replace(shipped_calibrations())
    older = older.without(*(d.device for d in older.devices if d.architecture == "blackwell"))
    fit = PointFit(group, case.device, older, Draw(30, 0))
    unseen = case.part(Part.CHOOSE)
    before, after = (
        errors_of(case, constants, unseen).absolute.mean()
        for constants in (fit.prior.constants, fit.constants)
    )
    assert after < 0.8 * before
