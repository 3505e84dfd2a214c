import json
from pathlib import Path

import pytest

from reports.cli.main import main

R1 = ("offload", "--model", "deepseek-r1", "--system", "h100_sxm")


def shown(capsys: pytest.CaptureFixture[str], *flags: str) -> dict:
    assert main([*R1, *flags, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_without_a_plan_there_is_the_curve_and_it_says_what_does_not_fit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(list(R1)) == 0
    printed = capsys.readouterr().out
    cells = [line.split() for line in printed.splitlines() if line.rstrip().endswith(("fit", "fits"))]
    assert [cells[0][0], cells[-1][0]] == ["0", "61"]
    memory = [row[-1] for row in cells]
    assert memory == sorted(memory, reverse=True)  # some that fits, then what does not fit
    assert set(memory) == {"fits", "fit"}
    assert "Grade D" in printed


def test_a_plan_is_priced_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    plan = "experts=cpu,rest=gpu"
    assert main([*R1, "--placement", plan, "--perfetto", str(file)]) == 0
    printed = capsys.readouterr().out
    assert plan in printed
    assert all(place in printed for place in ("gpu", "cpu", "copy"))
    events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    threads = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert threads == {"step", "compute", "copy", "host"}
    assert not any(event["name"] == "power_w" for event in events)


def test_the_same_plan_in_a_file_gives_the_same_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(
        "schema_version: 1\nrules:\n  - {what: experts, where: cpu}\n  - {what: rest, where: gpu}\n"
    )
    found = shown(capsys, "--placement", str(file))
    assert found == shown(capsys, "--placement", "experts=cpu,rest=gpu")
    assert [step["fits"] for step in found["steps"]] == [True]


def test_a_plan_that_does_not_fit_is_infeasible_and_one_that_cannot_be_read_bad_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*R1, "--placement", "rest=gpu"]) == 3
    assert "its part on the GPU needs" in capsys.readouterr().err
    assert main([*R1, "--placement", "rest=gpus,layrs=cpu"]) == 2
    printed = capsys.readouterr().err
    assert "did you mean gpu?" in printed
    assert "did you mean layers?" in printed


def test_a_curve_has_no_timeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*R1, "--perfetto", str(tmp_path / "step.json")]) == 2
    assert "--perfetto" in capsys.readouterr().err
