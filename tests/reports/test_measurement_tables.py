import json
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="measuring needs the extra `reference`")

from model_graphs.runs.measurement import MeasuredStep
from model_graphs.runs.trace_io import trace_from_json
from reports.cli.main import main
from reports.measurement_tables import measurement_json, shares_by_kind

QUICK = ("--layers", "2", "--repeats", "2", "--warm-up", "1", "--threads", "1", "--past-tokens", "8")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "step.json"
    assert (
        main(["measure", *QUICK, "--out", str(path), "--perfetto", str(path.with_suffix(".trace.json"))]) == 0
    )
    return path


@pytest.fixture(scope="module")
def step(file: Path) -> MeasuredStep:
    return trace_from_json(file.read_text(encoding="utf-8"), str(file))


def test_what_the_command_writes_reads_back_as_what_was_asked_for(step: MeasuredStep) -> None:
    assert (step.subject.model, step.subject.n_layers, step.subject.past_tokens) == ("deepseek-v3", 2, 8)
    assert (step.protocol.repeats, step.protocol.caches) == (2, "warm")


def test_the_timeline_holds_every_span_and_no_power(file: Path, step: MeasuredStep) -> None:
    events = json.loads(file.with_suffix(".trace.json").read_text(encoding="utf-8"))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "kernel"]
    assert names == [span.name for span in step.run.spans]
    assert not any(event["name"] == "power_w" for event in events)


def test_kinds_and_gaps_make_up_the_step(step: MeasuredStep) -> None:
    shares = shares_by_kind(step)
    assert sum(one.n_calls for one in shares) == len(step.run.spans)
    assert [one.busy_s for one in shares] == sorted((one.busy_s for one in shares), reverse=True)
    gaps_s = sum(b.start_s - a.end_s for a, b in pairwise(step.run.spans))
    ends_s = step.run.spans[0].start_s + step.run.makespan_s - step.run.spans[-1].end_s
    assert sum(one.share for one in shares) == pytest.approx(1 - (gaps_s + ends_s) / step.run.makespan_s)


def test_rates_are_work_over_time(step: MeasuredStep) -> None:
    linear = next(one for one in shares_by_kind(step) if one.kind == "linear")
    spans = [span for span in step.run.spans if span.kind == "linear"]
    seconds = sum(span.end_s - span.start_s for span in spans)
    assert linear.flop_per_s == pytest.approx(sum(span.flop for span in spans) / seconds)
    assert linear.bytes_per_s == pytest.approx(sum(span.traffic_bytes for span in spans) / seconds)


def test_energy_that_nobody_read_is_null_with_its_reason(step: MeasuredStep) -> None:
    energy = measurement_json(step)["energy"]
    assert isinstance(energy, dict)
    assert (energy["joules"] is None) == bool(energy["reason"])


def test_wrong_flags_are_all_named_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "step.json"
    wrong = ("--width", "wide", "--layers", "0", "--threads", "0", "--batch", "0")
    assert main(["measure", *wrong, "--out", str(out)]) == 2
    printed = capsys.readouterr().err
    assert all(flag in printed for flag in wrong[::2])
    assert not out.exists()


def test_a_model_too_large_for_the_machine_is_infeasible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reference_impl.measurement.subject.available_bytes", lambda device: 10**9)
    arguments = ["measure", "--width", "full", "--out", str(tmp_path / "step.json")]
    assert main(arguments) == 3
    assert "deepseek-v3 at full width in fp32 needs" in capsys.readouterr().err
