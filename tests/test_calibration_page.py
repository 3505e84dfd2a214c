"""The commands of docs/calibration.md run as they stand, on points priced from known constants with noise."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import silicast
from hardware_specs.library import load_system
from reports.cli.main import main
from simulator.costs.calibration import shipped_calibrations
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmShape, gemm_latency
from simulator.measured.silicon import is_installed

PAGE = (Path(silicast.__file__).parent / "docs" / "calibration.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ silicast (.*?)(?:\s+# needs (.*))?$", PAGE, flags=re.MULTILINE)
SLOWER, NOISE = 1.3, 0.03


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the page takes as given: GEMMs that take 1.3 times as long as the shipped ones."""
    path = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    m, n, k = (2.0 ** rng.integers(low, 14, 40) for low in (0, 8, 8))
    us = 1e6 * SLOWER * formula_s(m, n, k)
    us = us * np.exp(NOISE * rng.standard_normal(40))
    calls = [f"{i},gemm,bf16,{m[i]:.0f},{n[i]:.0f},{k[i]:.0f}" for i in range(40)]
    head = "id,family,dtype,m,n,k"
    (path / "shapes.csv").write_text("\n".join([head, *calls]) + "\n")
    timed = [f"{call},{one:.4f}" for call, one in zip(calls, us, strict=True)]
    (path / "points.csv").write_text("\n".join([f"{head},latency_us", *timed]) + "\n")
    (path / "trace.json").write_text(json.dumps({"traceEvents": list(_events(m, n, k, us))}))
    return path


def formula_s(m, n, k):
    """Latencies by the shipped constants alone: files of a user have no residual."""
    device = DeviceFigures.from_system(load_system("h200_sxm"))
    entry = shipped_calibrations().device("h200_sxm").get("gemm", "bf16", "cublas")
    return gemm_latency(GemmShape(m, n, k, 2.0), device.peak("bf16"), device, entry.constants).latency_s


def _events(m, n, k, us):
    for i in range(len(m)):
        args = {"External id": i, "Input Dims": [[m[i], k[i]], [k[i], n[i]]], "Input type": ["c10::Half"] * 2}
        yield {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 10 * i, "dur": 5, "args": args}
        yield {"ph": "X", "cat": "kernel", "name": "g", "ts": 10, "dur": us[i], "args": {"External id": i}}


@pytest.mark.parametrize(("command", "needs"), COMMANDS)
def test_a_command_of_the_page_runs(
    command: str,
    needs: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if needs == "[silicon]" and not is_installed():
        pytest.skip("no kernel tables: the extra [silicon] is not installed")
    monkeypatch.chdir(folder)
    code = main(shlex.split(command))
    shown = capsys.readouterr().err
    if code and needs == "the GPU":
        assert "argument" not in shown  # the flags are right; what fails is this machine
        pytest.skip(f"no GPU here: {shown.strip()}")
    assert code == 0, shown


def test_the_fit_of_the_page_finds_how_much_slower_the_kernel_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    fits = [command for command, needs in COMMANDS if command.startswith("calibrate") and not needs]
    assert len(fits) == 3
    for command in fits:
        assert main([*shlex.split(command), "--json"]) == 0
        (entry,) = json.loads(capsys.readouterr().out)["entries"]
        assert entry["transferred_mape"] > 0.15
        assert entry["cross_validated_mape"] < 2 * NOISE
