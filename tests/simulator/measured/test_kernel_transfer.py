import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from simulator.costs.gemm import GemmConstants
from simulator.measured import kernel_gemm_tables, kernel_transfer
from simulator.measured.kernel_case import KernelCase, KernelTable, with_site
from simulator.measured.kernel_cases import all_cases, serving_cases
from simulator.measured.kernel_releases import DEVICES
from simulator.measured.kernel_split import Part, part_of
from simulator.measured.kernel_transfer import (
    SEEDS,
    Study,
    Transfer,
    read_study,
    relatives_of,
    study_json,
    transferred,
)
from simulator.measured.kernel_transfer_tables import GOALS, in_a_goal, transfer_fragment
from simulator.measured.point_fit import PointFit

#: a kernel of which no device lends the like
TRUTH = GemmConstants(launch_s=9e-6, tensor_efficiency=0.5, bandwidth_efficiency=0.55)


def made_up_case() -> KernelCase:
    """A table of GEMMs on an H100, priced with constants that are known."""
    table = kernel_gemm_tables.TABLES["gemm"]

    def rows(case: KernelCase) -> pd.DataFrame:
        sizes = [256 * 2**i for i in range(7)]
        dims = [(m, n, k) for n in sizes for k in sizes for m in (1, 16, 256, 4096)]
        made = with_site(pd.DataFrame(dims, columns=["m", "n", "k"]).assign(trtllm=True), "n", "k")
        return made.assign(latency_s=case.latency_s(case.shape(made), TRUTH))

    own = KernelTable(rows, table.shape, table.latency_s, table.roofline_s)
    return KernelCase("h100_sxm", "gemm", "bf16", "cublas", (("trtllm", "0"),), own)


def test_thirty_points_find_a_kernel_that_others_do_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    plain = PointFit._fit

    def spy(self: PointFit, index: np.ndarray) -> GemmConstants:
        seen.append({self.group.sites[i] for i in index.tolist()})
        return plain(self, index)

    monkeypatch.setattr(PointFit, "_fit", spy)
    score = transferred(made_up_case(), serves=True)
    assert score.datasheet > 0.3 > 0.1 > score.after_points
    assert (score.lender, score.serves, score.engine) == ("", True, "trtllm")
    assert len(seen) == len(SEEDS) + 5  # folds of the first draw, for its interval
    assert score.coverage is not None
    assert score.coverage > 0.8
    assert {part_of("gemm", site) for sites in seen for site in sites} == {Part.FIT}


def test_a_device_borrows_from_other_generations_only_and_blackwell_from_older_ones() -> None:
    def lenders(device: str) -> Iterator[str]:
        case = next(case for case in all_cases() if case.device_key == device)
        return (known.architecture for known in relatives_of(case).devices)

    assert set(lenders("b300_sxm")) == {"ampere", "hopper"}
    assert "hopper" not in set(lenders("h100_sxm"))
    assert {"ampere", "blackwell"} <= set(lenders("h200_sxm"))


def test_every_kernel_that_serves_is_among_all() -> None:
    all_labels = {case.label for case in all_cases()}
    assert {case.label for device in DEVICES for case in serving_cases(device)} < all_labels


def one(family: str, device: str, datasheet: float, after: float, **more: object) -> Transfer:
    given = {"dtype": "bf16", "kernel": "a", "engine": "trtllm", "serves": True, "lender": "", "n_sites": 3}
    given |= {"coverage": None, "log_half_width": None}
    return Transfer(family=family, device=device, datasheet=datasheet, after_points=after, **given | more)  # type: ignore[arg-type]


SCORES = (
    one("gemm", "b200_sxm", 0.10, 0.08, coverage=0.8, log_half_width=math.log(1.5)),
    one("gemm", "gb200", 0.30, 0.06, serves=False, lender="gemm fp8 b"),
    one("gemm", "h100_sxm", 0.50, 0.04, coverage=1.0, log_half_width=math.log(1.3)),
    one("gemm", "a100_sxm_80gb", 0.90, 0.90),
    one("moe", "b200_sxm", 0.90, 0.90, engine="sglang"),
)


def test_means_are_over_blackwell_from_the_datasheet_and_over_both_generations_after_points() -> None:
    lines = transfer_fragment(Study("0", SCORES)).splitlines()
    # median of the log half-widths: sqrt(1.5 x 1.3) - 1 is 39.6%
    # serving 10; all (10 + 30) / 2; after points serving (8 + 4) / 2; all (8 + 6 + 4) / 3
    assert "| GEMM bf16, fp8 | 15 | 12 | 10.0 | 20.0 | 2 | 9 | 7 | 6.0 | 6.0 | 3 | 90.0 | 39.6 |" in lines
    assert "| MoE of TensorRT-LLM, DeepGEMM | 20 | 15 | - | - | 0 | 12 | 9 | - | - | 0 | - | - |" in lines
    assert "| gemm | bf16 | a | gb200 | 3 | gemm fp8 b | 30.0 | 6.0 |" in lines
    by_device = next(line for line in lines if line.startswith("| GEMM bf16, fp8 | 90.0 / 90.0"))
    assert "50.0 / 4.0" in by_device


def test_a_study_reads_back_as_it_was_written() -> None:
    study = Study("0123", SCORES)
    assert read_study(study_json(study)) == study
    assert study_json(read_study(study_json(study))) == study_json(study)


def test_goals_hold_each_gemm_attention_and_mla_kernel_once() -> None:
    families = ("gemm", "attention_prefill", "attention_decode", "mla_prefill", "mla_decode")
    dtypes = ("bf16", "fp8", "fp8_block", "nvfp4")
    for case in all_cases():
        if case.family in families and case.dtype in dtypes:
            assert sum(goal.holds(case) for goal in GOALS) == 1
    assert not in_a_goal(next(case for case in all_cases() if case.family == "nccl"))


def test_the_hash_follows_the_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kernel_transfer.shipped_calibrations()
    before = kernel_transfer.input_hash()
    monkeypatch.setattr(kernel_transfer, "shipped_calibrations", lambda: whole.without("gb200"))
    assert kernel_transfer.input_hash() != before
