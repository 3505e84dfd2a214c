import gzip
import json
from pathlib import Path

import pytest

from reports.cli.main import main

R1 = ["--model", "deepseek-r1", "--system", "h200_sxm", "--batch", "8", "--length", "2048"]


def test_a_step_is_printed_with_latency_energy_breakdown_and_what_bounds_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["step", *R1]) == 0
    text = capsys.readouterr().out
    for words in ("latency", "energy of a replica, GPUs only", "By component", "By bound", "What bounds it"):
        assert words in text
    assert "Evidence" not in text


def test_explain_adds_every_view_and_the_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", *R1, "--explain"]) == 0
    text = capsys.readouterr().out
    assert "By stream" in text
    assert "Evidence" in text


def test_every_view_of_the_json_sums_to_the_latency(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", *R1, "--phase", "prefill", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    breakdown = shown["breakdown"]
    for parts in breakdown["views"].values():
        exposed_s = sum(share["exposed_s"] for share in parts.values())
        assert exposed_s + breakdown["idle_s"] == pytest.approx(breakdown["makespan_s"])
    assert shown["latency_ms"]["value"] == pytest.approx(1e3 * breakdown["makespan_s"])
    assert shown["input_hash"]


def test_the_trace_is_written_whole_and_holds_every_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "step.json.gz"
    assert main(["step", *R1, "--perfetto", str(path)]) == 0
    assert str(path) in capsys.readouterr().out.replace("\n", "")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert {event["pid"] for event in events if event["ph"] == "X"} == set(range(8))
    assert list(tmp_path.iterdir()) == [path]


def test_the_deployment_may_come_from_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "deepseek-r1-8xh200", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["deployment"]["stack_version"] == "0.5.9"
    assert shown["assumptions"] == []
