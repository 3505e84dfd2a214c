"""Measured files answered row by row: a line for every figure asked, with the reason where there is none."""

import csv

import pytest

from hardware_specs.records.errors import InputError
from simulator.measured.bounds import weight_read_bound_ms
from simulator.measured.validation import (
    BEYOND_BOUND,
    read_measured,
    validate_measured,
)
from simulator.scenario.model import ClosedLoop, Deployment, Lengths, Scenario, Workload

ROW = {
    "id": "good",
    "measured": "2026-03-25",
    "model_path": "deepseek-ai/DeepSeek-V3",
    "system": "h200_sxm",
    "backend": "sglang",
    "backend_version": "0.5.9",
    "image": "lmsysorg/sglang:v0.5.9",
    "precision": "fp8",
    "mode": "agg",
    "isl": "512",
    "osl": "64",
    "concurrency": "2",
    "num_gpus": "8",
    "attention_dp": "1",
    "moe_ep": "1",
    "ttft_ms": "200",
    "tpot_ms": "9",
    "ttft_ok": "True",
}
ROWS = [
    ROW,
    {**ROW, "id": "impossible", "tpot_ms": "0.4"},
    {**ROW, "id": "broken", "isl": "long"},
    {**ROW, "id": "split", "mode": "disagg"},
    {**ROW, "id": "too big", "system": "h100_sxm"},
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("measured") / "rows.csv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ROW)
        writer.writeheader()
        writer.writerows(ROWS)
    return validate_measured(path)


def of(report, row_id):
    return {p.metric: p for p in report.predictions if p.id == row_id}


def test_every_row_has_a_line_for_every_figure_it_asks(report):
    assert {(p.id, p.metric) for p in report.predictions} == {
        (row["id"], metric) for row in ROWS for metric in ("ttft_ms", "tpot_ms")
    }


def test_an_answer_has_an_interval_a_grade_and_what_was_assumed(report):
    answer = of(report, "good")["tpot_ms"]
    assert answer.low < answer.predicted < answer.high
    assert answer.grade in "ABCD"
    assert "client lengths uniform" in answer.reason


def test_a_row_without_an_answer_says_why(report):
    assert "isl" in of(report, "broken")["tpot_ms"].reason
    assert "rows.csv:4" in of(report, "broken")["tpot_ms"].reason
    assert "disagg" in of(report, "split")["tpot_ms"].reason
    assert "GiB" in of(report, "too big")["tpot_ms"].reason
    assert all(of(report, name)["ttft_ms"].predicted is None for name in ("broken", "split", "too big"))


def test_a_run_faster_than_its_weights_can_be_read_is_flagged(report):
    assert BEYOND_BOUND in of(report, "impossible")["tpot_ms"].reason
    assert BEYOND_BOUND not in of(report, "good")["tpot_ms"].reason


def test_the_weight_read_bound_by_hand():
    # batch 1 in bf16 on 16 H200: 36.6e9 active parameters of 2 bytes. Every rank reads the fused down
    # projection (61 x 2112 x 7168 x 2 B = 1.85 GB) and the router (58 x 256 x 7168 x 2 B = 0.21 GB) whole and
    # a 16th of the rest: 2.06 + (73.2 - 2.06) / 16 = 6.51 GB; / 4.8 TB/s = 1.36 ms, less a tenth
    one = Scenario(
        name="one",
        deployment=Deployment(model="deepseek-v3", system="h200_sxm", gpus=16, tp=16, precision="bf16"),
        workload=Workload(
            arrivals=ClosedLoop(concurrency=1), input_tokens=Lengths(mean=16), output_tokens=Lengths(mean=16)
        ),
    )
    assert weight_read_bound_ms(one) == pytest.approx(0.9 * 1.36, rel=0.01)


@pytest.mark.parametrize("text", ["", "id,color\n1,red\n"])
def test_a_file_in_no_known_schema_is_refused(tmp_path, text):
    path = tmp_path / "unknown.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="missing"):
        read_measured(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="exist"):
        read_measured(tmp_path / "none.csv")
