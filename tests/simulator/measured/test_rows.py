"""Measured rows become scenarios by stated rules, and broken ones say which line and why."""

import csv

import pytest

from hardware_specs.records.errors import InputError
from simulator.measured.figure_rows import figure_row
from simulator.measured.serving_rows import client_length_law, read_serving_file, serving_row

SERVING = {
    "id": "x1",
    "measured": "2026-03-25",
    "model_path": "deepseek-ai/DeepSeek-V3",
    "system": "h200_sxm",
    "backend": "sglang",
    "backend_version": "0.5.9",
    "image": "lmsysorg/sglang:v0.5.9",
    "precision": "fp8",
    "mode": "agg",
    "isl": "1024",
    "osl": "1024",
    "concurrency": "64.0",
    "num_gpus": "8.0",
    "attention_dp": "8.0",
    "moe_ep": "8.0",
    "ttft_ms": "400",
    "tpot_ms": "30",
    "ttft_ok": "True",
}
FIGURE = {
    "id": "f1",
    "metric": "tpot_p99_ms",
    "value": "52.8",
    "suite": "S14",
    "scenario_kind": "llm",
    "load_kind": "closed_loop",
    "model_key": "deepseek-r1",
    "system_key": "h200_sxm",
    "stack": "vllm",
    "stack_version": "0.7.4.dev181",
    "precision_weights": "fp8",
    "isl_tokens": "3200",
    "osl_tokens": "800",
    "concurrency": "32",
    "num_requests": "500",
    "tp": "8",
    "answerable": "yes",
}


def test_attention_data_parallel_ranks_divide_the_tensor_width():
    deployment = serving_row(SERVING).scenario.deployment
    assert (deployment.gpus, deployment.tp, deployment.dp, deployment.ep) == (8, 1, 8, 8)


def test_an_empty_attention_dp_means_one():
    assert serving_row({**SERVING, "attention_dp": ""}).scenario.deployment.dp == 1


def test_ttft_counts_only_where_the_source_trusts_it():
    assert set(serving_row({**SERVING, "ttft_ok": "False"}).figures) == {"tpot_ms"}


def test_the_client_is_inferred_from_lengths_and_image_never_from_the_identifier():
    assert client_length_law("", 2048, 256) == "fixed"
    assert client_length_law("", 1024, 1024) == "uniform"
    assert client_length_law("some/image:1", 2048, 256) == "uniform"
    renamed = {**SERVING, "id": "h100_fixed_grid"}
    assert serving_row(renamed).scenario.workload == serving_row(SERVING).scenario.workload


def test_all_problems_of_a_row_are_named_at_once():
    with pytest.raises(InputError) as caught:
        serving_row({**SERVING, "isl": "many", "concurrency": "-3", "backend": "tgi"})
    assert {p.path for p in caught.value.problems} == {"isl", "concurrency", "backend"}


def test_a_broken_row_is_reported_by_its_line_and_the_others_are_read(tmp_path):
    path = tmp_path / "serving.csv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, SERVING)
        writer.writeheader()
        writer.writerows([SERVING, {**SERVING, "id": "x2", "osl": "?"}, {**SERVING, "id": "x3"}])
    rows, unanswered = read_serving_file(path)
    assert [r.id for r in rows] == ["x1", "x3"]
    assert [u.id for u in unanswered] == ["x2"]
    assert "serving.csv:3" in unanswered[0].reason
    assert "osl" in unanswered[0].reason


def test_a_figure_row_becomes_a_fixed_length_scenario():
    row = figure_row(FIGURE)
    assert row.figures == {"tpot_p99_ms": 52.8}
    assert row.scenario.workload.arrivals.concurrency == 32
    assert row.scenario.workload.input_tokens.law == "fixed"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"answerable": "missing: isl_tokens"}, "missing: isl_tokens"),
        ({"scenario_kind": "kernel"}, "kernel"),
        ({"load_kind": "server_max_slo"}, "server_max_slo"),
        ({"isl_tokens": ""}, "isl_tokens"),
    ],
)
def test_the_reason_for_an_unanswered_figure_is_specific(change, word):
    with pytest.raises(InputError, match=word):
        figure_row({**FIGURE, **change})
