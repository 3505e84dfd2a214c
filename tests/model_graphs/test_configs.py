import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from hardware_specs.records.errors import InputError
from hardware_specs.records.quantities import Kind
from model_graphs.architectures import CONFIGS
from model_graphs.architectures.deepseek import DeepSeekV3Config
from model_graphs.config_json import read_config_json
from model_graphs.configs import list_models, resolve_model
from model_graphs.storage import Precision


def hub_config(**changes: object) -> dict[str, object]:
    """A `config.json` as the hub ships it, with keys that are no architecture figures."""
    figures = resolve_model("deepseek-v3").config.model_dump(mode="json")
    figures["rope_scaling"] = {"type": "yarn", **figures["rope_scaling"]}
    extra = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "scoring_func": "sigmoid",
        "use_cache": True,
        "bos_token_id": 0,
    }
    return figures | extra | changes


def written(tmp_path: Path, data: object) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data, indent=2))
    return path


def test_every_file_holds_the_model_of_its_name_and_every_architecture_has_one() -> None:
    keys = [model.key for model in list_models()]
    assert keys == sorted(keys)
    assert {"article-v3", "deepseek-r1", "deepseek-v3", "gpt-oss-120b", "llama-3.1-70b"} <= set(keys)
    named = {model.architecture for model in list_models()}
    assert all(named & set(kind.names) for kind in CONFIGS)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-r1"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("nvidia/DeepSeek-R1-NVFP4", "deepseek-r1"),
        ("nvidia/DeepSeek-V3.1-NVFP4", "deepseek-v3.1"),
        ("DEEPSEEK-R1", "deepseek-r1"),
        ("DeepSeek-R1-0528", "deepseek-r1"),
    ],
)
def test_hub_names_resolve_to_canonical_keys(name: str, key: str) -> None:
    assert resolve_model(name).key == key


def test_r1_and_v31_are_configs_of_v3() -> None:
    v3 = resolve_model("deepseek-v3")
    for key in ("deepseek-r1", "deepseek-v3.1"):
        record = resolve_model(key)
        assert record.config == v3.config
        assert record.graph_key == "deepseek-v3"
        assert record.content_hash == v3.content_hash
        assert "V3" in record.notes[0]


def test_a_checkpoint_says_how_its_weights_are_stored() -> None:
    assert resolve_model("deepseek-r1").checkpoints["nvidia/DeepSeek-R1-NVFP4"] is Precision.FP4
    assert resolve_model("deepseek-r1").checkpoints["deepseek-ai/DeepSeek-R1"] is Precision.FP8


def test_the_article_states_three_figures_and_the_rest_is_said_to_be_assumed() -> None:
    article, v3 = resolve_model("article-v3"), resolve_model("deepseek-v3").config
    stated = {"hidden_size": 16384, "num_attention_heads": 128, "intermediate_size": 65536}
    assumed = article.assumed_fields()
    assert article.config.model_dump(include=set(stated)) == stated
    assert set(assumed) | set(stated) == set(DeepSeekV3Config.model_fields)
    assert article.config.model_dump(include=set(assumed)) == v3.model_dump(include=set(assumed))


def test_every_model_says_where_its_figures_come_from() -> None:
    for model in list_models():
        assert all(entry.source and entry.kind in Kind for entry in model.sources)


def test_an_unknown_model_is_refused_with_the_nearest_key() -> None:
    with pytest.raises(InputError, match="did you mean deepseek-r1"):
        resolve_model("deepseek-ai/DeepSeek-R11")


def test_a_config_json_with_v3_figures_is_v3(tmp_path: Path) -> None:
    record = resolve_model(str(written(tmp_path, hub_config())))
    assert record.key == "deepseek-v3"
    assert record.graph_key == "deepseek-v3"


def test_a_folder_with_a_config_json_is_read(tmp_path: Path) -> None:
    written(tmp_path, hub_config(num_hidden_layers=12))
    record = resolve_model(str(tmp_path))
    assert record.key.startswith("custom-")
    assert record.graph_key == record.key
    assert record.config.num_hidden_layers == 12


def test_every_problem_of_a_config_json_is_told_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, hub_config(hidden_size=-1, vocab_size="many", n_group=7))
    with pytest.raises(InputError) as caught:
        read_config_json(path)
    found = {problem.path: problem.line for problem in caught.value.problems}
    lines = path.read_text().splitlines()
    assert set(found) == {"hidden_size", "vocab_size"}
    assert all(name in lines[line - 1] for name, line in found.items() if line)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, hub_config(architectures=["LlamaForCausalML"]))
    with pytest.raises(InputError, match=r"must be one of .*did you mean LlamaForCausalLM"):
        resolve_model(str(path))


def test_what_an_architecture_cannot_express_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, hub_config(attention_bias=True, scoring_func="softmax"))
    with pytest.raises(InputError, match="must be 'sigmoid'") as caught:
        resolve_model(str(path))
    assert {problem.path for problem in caught.value.problems} == {"attention_bias", "scoring_func"}


def test_a_figure_that_a_config_json_leaves_open_is_not_guessed(tmp_path: Path) -> None:
    data = hub_config()
    del data["kv_lora_rank"]
    with pytest.raises(InputError, match="kv_lora_rank  must be given"):
        resolve_model(str(written(tmp_path, data)))


def test_routing_that_cannot_happen_is_refused() -> None:
    figures = resolve_model("deepseek-v3").config.model_dump()
    with pytest.raises(ValidationError, match="must be at most n_group"):
        DeepSeekV3Config(**figures | {"topk_group": 9})
    with pytest.raises(ValidationError, match="must be at most the 32 experts"):
        DeepSeekV3Config(**figures | {"topk_group": 1, "num_experts_per_tok": 33})
