"""`--model PATH/config.json` end to end: graphs emitted on the fly, weights as the file stores them."""

import json
import os
from pathlib import Path

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.graph_io import GRAPHS_VARIABLE, load_graph
from reports import graph_cache
from reports.cli.main import main

pytest.importorskip("torch", reason="graphs of a user's model are emitted with torch")

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "intermediate_size": 2816,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
ON = ["--system", "h200_sxm", "--tp", "1"]
LOAD = ["--isl", "128", "--osl", "16", "--concurrency", "2", "--requests", "4"]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is made when the first graph is emitted."""
    return tmp_path_factory.mktemp("cache") / "graphs"


@pytest.fixture(autouse=True)
def _own_graphs(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(graphs))


@pytest.fixture
def model(tmp_path: Path) -> str:
    return written(tmp_path, LLAMA)


@pytest.fixture
def unknown(tmp_path: Path) -> str:
    return written(tmp_path, LLAMA | {"architectures": ["FooForCausalLM"], "sliding_window": 512})


def written(folder: Path, data: dict[str, object]) -> str:
    (folder / "config.json").write_text(json.dumps(data))
    return str(folder / "config.json")


def shown(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, object]:
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


def assumptions(content: dict[str, object]) -> dict[str, tuple[str, str]]:
    return {one["what"]: (one["value"], one["source"]) for one in content["assumptions"]}


def test_a_graph_of_a_users_model_is_emitted_kept_and_counted(
    capsys: pytest.CaptureFixture[str], model: str, graphs: Path
) -> None:
    content = shown(capsys, "graph", model)
    # 4 layers of 4 x 1024^2 and 3 x 1024 x 2816, two norms each; a last norm; embedding and head
    wanted = 4 * (4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024) + 1024 + 2 * 32000 * 1024
    assert content["parameters"]["total"] == wanted
    key = resolve_model(model).graph_key
    assert {file.name for file in graphs.iterdir()} >= {f"{key}.prefill.json", f"{key}.decode.json"}


def test_a_kept_graph_is_not_emitted_again(
    capsys: pytest.CaptureFixture[str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["graph", model]) == 0
    monkeypatch.setattr(graph_cache, "emit_phases", None)
    monkeypatch.setattr(graph_cache, "find_spec", None)
    assert main(["graph", model]) == 0
    assert "config.json stores attention, mlp in fp8_block" in capsys.readouterr().out


def test_the_files_precision_is_that_of_the_deployment_and_is_said(
    capsys: pytest.CaptureFixture[str], model: str
) -> None:
    content = shown(capsys, "simulate", "--model", model, *ON, *LOAD)
    assert content["scenario"]["deployment"]["precision"] == "fp8"
    value, source = assumptions(content)["precision"]
    assert (value, source) == ("fp8 (fp8_block)", "config.json: --precision was not given")
    assert "--precision" not in assumptions(content)
    assert content["approximation"] == []


def test_a_file_without_the_section_is_16_bits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plain = written(tmp_path, {key: value for key, value in LLAMA.items() if key != "quantization_config"})
    content = shown(capsys, "step", "--model", plain, *ON)
    assert content["deployment"]["precision"] == "bf16"
    assert assumptions(content)["precision"][0] == "bf16"


def test_another_precision_may_be_given_and_is_said(capsys: pytest.CaptureFixture[str], model: str) -> None:
    own = shown(capsys, "step", "--model", model, *ON)
    other = shown(capsys, "step", "--model", model, *ON, "--precision", "bf16")
    assert assumptions(other)["precision"] == ("bf16", "given, although config.json stores fp8_block")
    # products of the layers take two bytes an element instead of one; head and cache stay as they are
    more = other["work_per_rank"]["traffic_bytes"] - own["work_per_rank"]["traffic_bytes"]
    assert more == pytest.approx(4 * (4 * 1024**2 + 3 * 1024 * 2816), rel=0.05)


def test_the_files_own_precision_may_be_given_in_silence(
    capsys: pytest.CaptureFixture[str], model: str
) -> None:
    content = shown(capsys, "step", "--model", model, *ON, "--precision", "fp8_block")
    assert "precision" not in assumptions(content)


def test_a_scenario_file_that_states_no_precision_takes_the_models(
    capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path
) -> None:
    plain = written(tmp_path, {key: value for key, value in LLAMA.items() if key != "quantization_config"})
    head = f"schema_version: 1\nname: mine\ndeployment: {{model: {plain}, system: h200_sxm, gpus: 1, tp: 1"
    tail = "workload:\n  arrivals: {kind: closed_loop, concurrency: 2}\n"
    tail += "  input_tokens: {mean: 64}\n  output_tokens: {mean: 8}\n"
    scenario = tmp_path / "mine.yaml"
    for more, wanted in (("", "bf16"), (", precision: fp8", "fp8")):
        scenario.write_text(f"{head}{more}}}\n{tail}")
        content = shown(capsys, "step", str(scenario))
        assert content["deployment"]["precision"] == wanted


def test_an_unknown_architecture_is_refused_with_the_hint(
    capsys: pytest.CaptureFixture[str], unknown: str
) -> None:
    for command in (["graph", unknown], ["step", "--model", unknown, *ON], ["emit", unknown]):
        assert main(command) == 2
        message = capsys.readouterr().err
        assert "architecture must be one of" in message
        assert "--approximate" in message


@pytest.mark.parametrize("command", ["simulate", "step"])
def test_an_approximated_model_is_graded_d_everywhere(
    capsys: pytest.CaptureFixture[str], unknown: str, command: str
) -> None:
    load = LOAD if command == "simulate" else []
    content = shown(capsys, command, "--model", unknown, *ON, "--approximate", *load)
    assert set(grades(content)) == {"D"}
    assert len(grades(content)) >= 3
    assert content["approximation"][0].startswith("grade D: FooForCausalLM is not known and is read as Llama")
    assert any("sliding_window = 512" in note for note in content["approximation"])


def grades(content: object) -> list[str]:
    if isinstance(content, list):
        return [grade for item in content for grade in grades(item)]
    if not isinstance(content, dict):
        return []
    own = [content["grade"]] if isinstance(content.get("grade"), str) else []
    return own + [grade for value in content.values() for grade in grades(value)]


@pytest.mark.parametrize(
    "command", [["graph"], ["step", *ON, "--model"], ["simulate", *ON, *LOAD, "--model"]], ids=lambda c: c[0]
)
def test_that_a_model_is_approximated_is_said_in_the_first_lines(
    capsys: pytest.CaptureFixture[str], unknown: str, command: list[str]
) -> None:
    assert main([*command, unknown, "--approximate"]) == 0
    head = capsys.readouterr().out.splitlines()[:8]
    assert any("grade D: FooForCausalLM" in line for line in head)


def test_a_report_says_it_above_everything(unknown: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    command = ["report", "--model", unknown, "--approximate", *ON, *LOAD, "--html", str(page)]
    assert main(command) == 0
    assert "grade D: FooForCausalLM" in page.read_text(encoding="utf-8").partition("<h2")[0]


def test_a_shipped_model_needs_no_approximation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "--model", "deepseek-r1", "--system", "h200_sxm", "--approximate"]) == 2
    assert "a shipped model is known exactly" in capsys.readouterr().err


def test_without_torch_the_error_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(graph_cache, "find_spec", lambda name: None)
    assert main(["step", "--model", model, *ON]) == 2
    message = capsys.readouterr().err
    assert "silicast emit MODEL --out FOLDER" in message
    assert f"{GRAPHS_VARIABLE}=FOLDER" in message


def test_graphs_that_emit_wrote_are_found_where_the_variable_says(
    capsys: pytest.CaptureFixture[str], model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "emitted"
    folder.mkdir()
    assert main(["emit", model, "--out", str(folder)]) == 0
    capsys.readouterr()
    monkeypatch.setenv(GRAPHS_VARIABLE, str(folder))
    monkeypatch.setattr(graph_cache, "emit_phases", None)
    assert shown(capsys, "step", "--model", model, *ON)


def test_without_a_folder_graphs_are_kept_until_the_process_ends(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(GRAPHS_VARIABLE)
    kept: list[Path] = []
    monkeypatch.setattr(graph_cache.atexit, "register", lambda remove, folder, **_: kept.append(folder))
    record = resolve_model(model)
    with pytest.raises(InputError, match=f"set {GRAPHS_VARIABLE}=FOLDER"):
        load_graph(record, "decode")
    graph_cache.ensure_emitted(record)
    (folder,) = kept
    assert os.environ[GRAPHS_VARIABLE] == str(folder)
    assert load_graph(record, "decode").model == record.key
    assert len(list(folder.iterdir())) == 3


def test_a_folder_that_cannot_be_made_is_refused(
    capsys: pytest.CaptureFixture[str], model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path / "file" / "graphs"))
    assert main(["graph", model]) == 2
    assert f"{GRAPHS_VARIABLE}  must name a folder that can be made" in capsys.readouterr().err
