import json
from pathlib import Path

import numpy as np
import pytest

from hardware_specs.library import load_system
from reports.calibration import form_of
from reports.cli.main import main
from simulator.costs.library import KernelLibrary

STEP = ("--model", "llama-3.3-70b", "--system", "h200_sxm", "--tp", "8", "--precision", "bf16", "--json")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty GEMMs, half as fast again as the shipped constants say."""
    rng = np.random.default_rng(0)
    m, n, k = (2.0 ** rng.integers(low, 14, 30) for low in (0, 8, 8))
    us = 1.5e6 * KernelLibrary(load_system("h200_sxm"), "vllm").gemm(m, n, k).latency_s
    rows = [f"{i},gemm,bf16,{m[i]:.0f},{n[i]:.0f},{k[i]:.0f},{us[i]:.6f}" for i in range(30)]
    path = tmp_path_factory.mktemp("calibrate") / "points.csv"
    path.write_text("\n".join(["id,family,dtype,m,n,k,latency_us", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def calibrated(measured: Path) -> Path:
    out = measured.parent / "own.yaml"
    arguments = ["calibrate", "--measured", str(measured), "--system", "h200_sxm", "--out", str(out)]
    assert main([*arguments, "--stack", "vllm"]) == 0
    return out


def test_the_table_shows_errors_before_and_after(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "own.yaml"
    arguments = ["calibrate", "--measured", str(measured), "--system", "h200_sxm", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    assert entry["transferred_mape"] > 0.2 > 0.05 > entry["fit_mape"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "before" in shown
    assert f"wrote {out}" in shown


def test_a_calibration_changes_a_step_and_its_hash(
    calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["step", *STEP]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["step", *STEP, "--calibration", str(calibrated)]) == 0
    own = json.loads(capsys.readouterr().out)
    assert own["input_hash"] != plain["input_hash"]
    assert json.dumps(own).count("points.csv") > 0
    assert own["latency_ms"]["value"] > 1.1 * plain["latency_ms"]["value"]


def test_a_broken_file_leaves_nothing_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, out = tmp_path / "bad.csv", tmp_path / "own.yaml"
    bad.write_text("family,dtype,m,n,k,latency_us\ngemm,bf16,1,2,x,3\ngemm,bf16,1,2,3,0\n")
    assert main(["calibrate", "--measured", str(bad), "--system", "h200_sxm", "--out", str(out)]) == 2
    shown = capsys.readouterr().err
    assert "bad.csv:2  k" in shown
    assert "bad.csv:3  latency_us" in shown
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("family,latency_us\n", "csv"),
        ('{"traceEvents": []}', "kineto"),
        ('[{"ph": "X"}]', "kineto"),
        ('{"subject": {}, "spans": []}', "measure"),
    ],
)
def test_a_format_is_told_by_content(text: str, form: str) -> None:
    assert form_of(text, "file") == form


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"id,family,dtype,m,n,k,latency_ms\n", "needs columns latency_us; given id, family"),
        (b"\xff\xfe\x00", "must be text in UTF-8"),
        (b'{"traceEvents": 3}', "traceEvents  must hold a list of events"),
        (b'{"other": 3}', "must be a CSV, a trace of `silicast measure` or of a profiler"),
        (
            b'[{"ph": "X", "cat": "kernel", "ts": "z", "dur": -1}]',
            "[0].ts  must be a number of microseconds that is not negative; given 'z'",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_without_a_traceback(
    content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "bad", tmp_path / "own.yaml"
    bad.write_bytes(content)
    assert main(["calibrate", "--measured", str(bad), "--system", "h200_sxm", "--out", str(out)]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_flags_that_are_wrong_are_named_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--system", "h20000", "--stack", "vlm", "--points", "2", "--measured-on", "today")
    assert main(["calibrate", "--measured", "x", "--out", str(tmp_path / "y"), *flags]) == 2
    shown = capsys.readouterr().err
    assert all(name in shown for name in ("h20000", "did you mean vllm?", "--points", "--measured-on"))


def test_a_measured_step_is_fitted_by_its_graph() -> None:
    pytest.importorskip("torch", reason="needs the extra reference")
    from reference_impl.measurement.request import MeasurementRequest
    from reference_impl.measurement.steps import measure_step
    from reports.measured_points import groups_of_step
    from simulator.costs.calibration import shipped_calibrations

    request = MeasurementRequest("qwen3-8b", n_layers=2, phase="prefill", new_tokens=16, repeats=1)
    step = measure_step(request)
    others = shipped_calibrations().without("h200_sxm")
    groups, n_left = groups_of_step(step, load_system("h200_sxm"), "vllm", others)
    families = {group.family for group in groups}
    assert {"gemm", "attention_prefill", "bandwidth"} <= families
    assert n_left < len(step.run.spans) / 2
    gemms = next(group for group in groups if group.family == "gemm")
    spans = [span for span in step.run.spans if span.kind == "linear"]
    assert 0 < len(gemms) < len(spans)  # two layers make the same calls
