import json
from pathlib import Path

import pytest

from hardware_specs.records.errors import InputError
from hardware_specs.records.evidence import Grade
from hardware_specs.records.quantities import Kind
from model_graphs.architectures import ARCHITECTURES
from model_graphs.configs import ModelRecord, resolve_model
from model_graphs.storage import Precision

FOO = {
    "architectures": ["FooForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": None,
    "tie_word_embeddings": True,
    "head_dim": 64,
}
EXPERTS = {"num_local_experts": 16, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 64, "n_routed_experts": 16, "num_experts_per_tok": 2, "qk_rope_head_dim": 32}


def approximate(tmp_path: Path, data: dict[str, object]) -> ModelRecord:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data, indent=1))
    return resolve_model(str(path), approximate=True)


def without(*keys: str) -> dict[str, object]:
    return {key: value for key, value in FOO.items() if key not in keys}


def test_without_the_flag_the_file_is_refused_with_the_list_and_the_hint(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FOO))
    with pytest.raises(InputError) as caught:
        resolve_model(str(path))
    (problem,) = caught.value.problems
    assert all(name in problem.requirement for name in ARCHITECTURES)
    assert "--approximate reads it as the nearest" in problem.requirement
    assert (problem.given, problem.path) == ("FooForCausalLM", "architectures")


@pytest.mark.parametrize(
    ("more", "architecture"),
    [
        ({}, "LlamaForCausalLM"),
        (EXPERTS, "Qwen3MoeForCausalLM"),
        ({"moe_num_experts": 8, "moe_k": 2}, "Qwen3MoeForCausalLM"),
        (LATENT, "DeepseekV3ForCausalLM"),
    ],
)
def test_the_keys_of_a_file_decide_what_is_nearest(
    tmp_path: Path, more: dict[str, object], architecture: str
) -> None:
    record = approximate(tmp_path, FOO | more)
    assert record.architecture == architecture
    assert record.approximates == "FooForCausalLM"
    assert record.grade is Grade.D
    assert record.notes[0] == (
        f"grade D: FooForCausalLM is not known and is read as {architecture}, the nearest by its keys"
    )


def test_a_file_that_says_everything_needs_no_assumption(tmp_path: Path) -> None:
    record = approximate(tmp_path, FOO)
    assert record.assumed_fields() == ()
    assert len(record.notes) == 1
    assert record.config.model_dump() == {key: value for key, value in FOO.items() if key != "architectures"}


def test_what_a_file_leaves_out_is_assumed_and_told_with_its_value(tmp_path: Path) -> None:
    record = approximate(tmp_path, without("num_key_value_heads", "rope_theta", "head_dim"))
    assert set(record.assumed_fields()) == {"num_key_value_heads", "rope_theta", "head_dim"}
    assert "num_key_value_heads = 8, head_dim = 64, rope_theta = 10000.0" in record.notes[1]
    assert {source.kind for source in record.sources if source.fields} == {Kind.ASSUMED}


def test_a_latent_model_gets_every_figure_that_v3_needs(tmp_path: Path) -> None:
    record = approximate(tmp_path, FOO | LATENT)
    config = record.config.model_dump()
    assert config["kv_lora_rank"] == 64
    assert config["n_routed_experts"] == 16
    assert {"q_lora_rank", "v_head_dim", "n_group", "first_k_dense_replace"} <= set(record.assumed_fields())
    assert {"kv_lora_rank", "qk_rope_head_dim", "hidden_size"}.isdisjoint(record.assumed_fields())


def test_other_spellings_of_a_key_are_read(tmp_path: Path) -> None:
    data = without("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "head_dim")
    spelt = data | {"n_embd": 512, "n_layer": 4, "n_head": 8, "n_inner": 1024}
    assert approximate(tmp_path, spelt).config == approximate(tmp_path, without("head_dim")).config


def test_figures_of_a_nested_text_model_are_read(tmp_path: Path) -> None:
    nested = {"text_config": without("architectures"), "vision_config": {"depth": 24}}
    record = approximate(tmp_path, nested | {"architectures": ["FooForCausalLM"]})
    assert record.config == approximate(tmp_path, FOO).config
    assert record.content_hash == approximate(tmp_path, FOO).content_hash


def test_parts_that_the_nearest_has_not_are_left_out_and_told(tmp_path: Path) -> None:
    given = {
        "hidden_act": "gelu",
        "attention_bias": True,
        "sliding_window": 1024,
        "rope_scaling": {"rope_type": "longrope"},
        "vision_config": {"depth": 24},
    }
    (left_out,) = (note for note in approximate(tmp_path, FOO | given).notes if note.startswith("left out"))
    for key in given:
        assert f"{key} = " in left_out


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_file_without_a_needed_width_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(
        InputError, match=f"{key}  must be given as a whole number, to read FooForCausalLM as"
    ):
        approximate(tmp_path, without(key))


def test_every_missing_width_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        approximate(tmp_path, {"architectures": ["FooForCausalLM"], "num_experts": 8})
    assert [problem.path for problem in caught.value.problems] == [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "intermediate_size",
        "num_experts_per_tok",
    ]


def test_a_wrong_figure_is_refused_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config.json:\d+:\d+  rms_norm_eps  must be a number"):
        approximate(tmp_path, FOO | {"rms_norm_eps": "small"})


def test_a_known_architecture_is_never_approximated(tmp_path: Path) -> None:
    record = approximate(tmp_path, FOO | {"architectures": ["LlamaForCausalLM"]})
    assert (record.approximates, record.grade) == ("", Grade.A)


def test_how_weights_are_stored_is_read_from_an_unknown_architecture_too(tmp_path: Path) -> None:
    section = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    record = approximate(tmp_path, FOO | EXPERTS | {"quantization_config": section})
    assert record.precision is Precision.FP8
    assert record.stored[Precision.FP8].components == ("attention", "moe")
