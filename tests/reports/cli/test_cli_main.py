import os
import subprocess
import sys
from pathlib import Path

import pytest

from reports.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("numpy", "pandas", "plotly", "torch", "pydantic", "rich", "simpy")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_help_lists_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert "exit codes" in printed


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, reports.cli.main as m; m.main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    )
    loaded = python("-c", code).stderr
    assert not [name for name in HEAVY if f"'{name}'" in loaded]


def test_help_takes_little_longer_than_the_interpreter_itself() -> None:
    code = (
        "import sys, time; start = time.perf_counter();"
        "from reports.cli.main import main; main(['--help']);"
        "print(time.perf_counter() - start, file=sys.stderr)"
    )
    seconds = min(float(python("-c", code).stderr) for _ in range(3))
    assert seconds < 0.25


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: silicast {name}" in capsys.readouterr().out


def test_simulate_help_shows_defaults_with_units(capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for shown in (
        "(default: 1024 tokens)",
        "(default: 16 requests in flight)",
        "ms (default: none)",
        "USD per GPU-hour",
    ):
        assert shown in printed


def test_no_arguments_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "commands:" in capsys.readouterr().out


def test_a_misspelt_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulat"]) == 2
    assert "did you mean simulate?" in capsys.readouterr().err


def test_misspelt_flags_are_all_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--modle", "--sistem=h200_sxm"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "did you mean --model?" in line]
    assert [line for line in lines if "did you mean --system?" in line]


def test_a_flag_without_its_value_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--tp", "eight"]) == 2
    assert "--tp" in capsys.readouterr().err


def test_an_unexpected_failure_is_internal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(args: object) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("reports.cli.doctor.run", broken)
    assert main(["doctor"]) == 1
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-c", "from reports.cli.main import main; raise SystemExit(main(['schema']))"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
