"""The page about adding a device is followed as it stands."""

import json
import re
from pathlib import Path

import pytest

import silicast
from hardware_specs.library import list_systems
from reports.cli.main import main

PAGE = (Path(silicast.__file__).parent / "docs" / "adding-a-device.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first fenced block in the language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def commands(name: str) -> list[list[str]]:
    """The arguments of every `silicast NAME` on the page."""
    lines = re.findall(rf"^\$ silicast ({name} .*)$", PAGE, re.MULTILINE)
    assert lines
    return [line.split() for line in lines]


@pytest.fixture(autouse=True)
def in_a_folder_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nvidia_t4.yaml").write_text(block("yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_part_is_not_one_of_the_library() -> None:
    assert not any("t4" in key for key in list_systems())


def test_check_passes_and_says_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    (check,) = commands("systems")
    assert main(check) == 0
    said = capsys.readouterr().out.splitlines()
    for line in block("text").splitlines():
        assert line in said


def test_check_names_what_is_missing(
    in_a_folder_with_the_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "".join(line for line in block("yaml").splitlines(True) if not line.startswith(("tdp", "clock")))
    (in_a_folder_with_the_file / "nvidia_t4.yaml").write_text(text)
    (check,) = commands("systems")
    assert main(check) == 2
    error = capsys.readouterr().err
    assert [line.split("  ", 1)[1] for line in error.splitlines()] == [
        "clock  must be given",
        "tdp  must be given",
    ]


def test_the_forecast_holds_that_of_the_page_and_the_bound_by_hand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (simulate,) = commands("simulate")
    assert main([*simulate, "--json"]) == 0
    tpot = json.loads(capsys.readouterr().out)["metrics"]["tpot_median_ms"]
    written = re.search(r"`tpot_median_ms`\) was ([\d.]+) ms", PAGE)
    assert written
    assert tpot["low"] < float(written[1]) < tpot["high"]
    assert tpot["value"] > 20  # 6.4 GB over 320 GB/s
    assert tpot["grade"] in ("C", "D")


def test_the_step_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (step,) = commands("step")
    assert main(step) == 0
    assert "What bounds it" in capsys.readouterr().out
