import json
from pathlib import Path

import pytest

from hardware_specs.library import list_systems, load_system
from reports.cli.main import main
from reports.cli.schema import FORMATS


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    assert main([*argv, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


def test_every_system_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "systems", "list")["systems"]
    assert [one["key"] for one in found] == list(list_systems())


def test_a_system_is_shown_with_every_figure_and_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer(capsys, "systems", "show", "h200_sxm")
    bandwidth = shown["figures"]["device.memory.bandwidth_bytes_per_s"]
    assert bandwidth["value_si"] == load_system("h200_sxm").device.memory.bandwidth_bytes_per_s.value
    assert all(one["source"] and one["kind"] for one in shown["figures"].values())


def test_several_names_are_shown_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(answer(capsys, "systems", "show", "h200_sxm", "b200_sxm")["items"]) == 2


def test_r1_is_shown_as_a_config_of_v3(capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer(capsys, "models", "show", "deepseek-ai/DeepSeek-R1")
    assert (shown["key"], shown["graph_key"]) == ("deepseek-r1", "deepseek-v3")
    assert shown["config"]["num_hidden_layers"] == 61


def test_figures_that_a_model_assumes_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "article-v3"]) == 0
    line = next(
        one for one in capsys.readouterr().out.splitlines() if one.strip().startswith("n_routed_experts")
    )
    assert line.rstrip().endswith("assumed")


def test_a_stack_version_is_shown_with_its_constants(capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer(capsys, "stacks", "show", "sglang@0.5.9")
    assert any("host_per_sequence_s" in path for path in shown["figures"])
    assert shown["content_hash"]


def test_the_stacks_of_three_engines_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(answer(capsys, "stacks", "list")["stacks"]) == ["sglang", "trtllm", "vllm"]


def test_shipped_files_pass_their_own_check(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).resolve().parents[3]
    assert main(["systems", "check", str(root / "hardware_specs" / "devices" / "h200_sxm.yaml")]) == 0
    assert main(["stacks", "check", str(root / "simulator" / "stacks" / "sglang.yaml")]) == 0
    assert "will be assumed" in capsys.readouterr().out


def test_all_files_are_checked_and_all_problems_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text("part: toaster\n")
    assert main(["systems", "check", str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [Path(line.split(":")[0]).name for line in lines] == ["one.yaml", "two.yaml"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_schema(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", name]) == 0
    schema = json.loads(capsys.readouterr().out)
    choices = [schema["$defs"][one["$ref"].rsplit("/", 1)[1]] for one in schema.get("anyOf", ())] or [schema]
    assert all(one["type"] == "object" and one["properties"] for one in choices)


def test_doctor_finds_our_packages_and_nothing_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "doctor")
    assert found["problems"] == []
    assert Path(found["packages"]["simulator"]).name == "simulator"


def test_doctor_names_a_package_that_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reports.cli.doctor.package_folder", lambda name: f"/elsewhere/{name}")
    assert main(["doctor"]) == 2
    assert "package simulator comes from /elsewhere/simulator" in capsys.readouterr().out


def test_emit_says_what_to_install_where_torch_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["emit", "deepseek-r1"]) == 2
    assert "pip install 'silicast[reference]'" in capsys.readouterr().err


def test_the_graph_holds_the_closed_forms(capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer(capsys, "graph", "deepseek-v3")
    # dense attention, naive MLA, 1 x 4,096 tokens
    assert shown["total"]["at_point"]["flop"] == 383_866_460_176_384
    assert shown["parameters"]["total"] == 671_026_404_352
    assert shown["cache_groups"][0]["bytes_per_token"] == 70_272


def test_the_graph_is_asked_at_a_point(capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer(capsys, "graph", "deepseek-r1", "--phase", "decode", "--batch", "8", "--past", "1000")
    assert shown["at"] == {"B": 8, "S": 1, "T": 1000}
    assert main(["graph", "deepseek-r1", "--past", "-1"]) == 2
