import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="emission needs the extra `reference`")

from reports.cli.main import main


def test_the_shipped_graph_of_r1_is_what_the_reference_implementation_emits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["emit", "deepseek-r1", "--phase", "decode", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []


def test_a_graph_that_differs_fails_the_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reports.emitted.compare", lambda record, graphs: ["decode"])
    assert main(["emit", "deepseek-r1", "--phase", "decode", "--check"]) == 4
    captured = capsys.readouterr()
    assert "differs" in captured.out
    assert captured.err.rstrip().endswith("decode")


def test_files_are_written_whole_under_the_name_that_graphs_are_found_by(tmp_path: Path) -> None:
    assert main(["emit", "deepseek-v3", "--phase", "decode", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["deepseek-v3.decode.json"]


def test_an_unknown_phase_or_folder_is_bad_input_before_any_tracing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["emit", "deepseek-v3", "--phase", "decod"]) == 2
    assert "did you mean decode?" in capsys.readouterr().err
    assert main(["emit", "deepseek-v3", "--out", str(tmp_path / "absent")]) == 2
