import json
from pathlib import Path

import pytest

from reports.cli.main import main

torch = pytest.importorskip("torch", reason="checkpoints are held against the reference implementation")

WIDTHS = {
    "vocab_size": 96,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "intermediate_size": 256,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from model_graphs.architectures import LlamaConfig
    from reference_impl.checkpoints.writer import write_checkpoint
    from reference_impl.decoder import build_model

    config = LlamaConfig(**WIDTHS)
    model = build_model(config.blueprint, torch.bfloat16)
    for parameter in model.parameters():
        parameter.fill_(0.5)
    write_checkpoint(model, config, tmp_path, 100_000, "fp8_block")
    return tmp_path


def test_a_right_checkpoint_is_shown_by_component_and_form(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "check", str(folder)]) == 0
    text = capsys.readouterr().out
    for words in ("right", "LlamaForCausalLM", "fp8_block", "F8_E4M3", "config.json stores attention, mlp"):
        assert words in text


def test_its_figures_are_those_of_the_config(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "check", str(folder), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    # a layer: q and o 128 x 128, k and v 64 x 128, three of 256 x 128, two norms
    layer = 2 * 128 * 128 + 2 * 64 * 128 + 3 * 256 * 128
    assert content["parameters"] == 2 * (layer + 2 * 128) + 128 + 2 * 96 * 128
    parts = {part["component"]: part for part in content["parts"]}
    # a byte an element, and a scale of four bytes a block: q, o, k and v have one, the others two
    assert parts["attention"]["n_bytes"] == 2 * (2 * 128 * 128 + 2 * 64 * 128 + 4 * 4)
    assert parts["mlp"]["n_bytes"] == 2 * (3 * 256 * 128 + 6 * 4)
    assert parts["head"] | {"form": "plain", "dtype": "BF16", "n_bytes": 2 * 96 * 128} == parts["head"]
    assert content["n_bytes"] == sum(part["n_bytes"] for part in content["parts"])


def test_every_problem_is_told_with_exit_code_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = sorted(folder.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["metadata"]["total_size"] = 7
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert main(["checkpoint", "check", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "the file is truncated" in message
    assert "metadata.total_size" in message


def test_a_config_that_says_another_form_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["modules_to_not_convert"] = ["self_attn"]
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["checkpoint", "check", str(folder)]) == 2
    assert "must be how attention is stored: fp8_block; given 16 bits" in capsys.readouterr().err


def test_another_action_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "show", "."]) == 2
    assert "invalid choice: 'show'" in capsys.readouterr().err
