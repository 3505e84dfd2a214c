import json
from pathlib import Path

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.configs import ModelRecord, resolve_model
from model_graphs.quantization import _METHODS
from model_graphs.storage import FORMATS, WIDTH_OF, Precision, Storage

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}
MOE = LLAMA | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "head_dim": 64,
    "moe_intermediate_size": 256,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
}
BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}


def compressed(weights: dict[str, object], **more: object) -> dict[str, object]:
    group = {"targets": ["Linear"], "weights": weights}
    known = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    return known | {"ignore": ["lm_head"]} | more


def modelopt(algorithm: str, **more: object) -> dict[str, object]:
    return {"quant_method": "modelopt", "quant_algo": algorithm} | more


def record_of(tmp_path: Path, section: object, base: dict[str, object] = LLAMA) -> ModelRecord:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(base | {"quantization_config": section}, indent=1))
    return resolve_model(str(path))


@pytest.mark.parametrize(
    ("section", "dtype"),
    [
        (BLOCKS, "fp8_block"),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        (modelopt("FP8"), "fp8"),
        (modelopt("NVFP4"), "nvfp4"),
        (compressed({"num_bits": 8, "type": "float", "strategy": "channel"}), "fp8"),
        (
            compressed({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}),
            "fp8_block",
        ),
        (compressed({"num_bits": 4, "type": "float", "group_size": 16}), "nvfp4"),
        (compressed({"num_bits": 4, "type": "float", "group_size": 32}), "mxfp4"),
    ],
)
def test_each_method_means_one_type(tmp_path: Path, section: dict[str, object], dtype: str) -> None:
    record = record_of(tmp_path, section)
    assert record.precision is WIDTH_OF[dtype]
    assert record.storage(record.precision) == Storage(dtype=dtype, components=("attention", "mlp"))
    assert record.notes[0].startswith(f"config.json stores attention, mlp in {dtype}")


def test_a_file_without_the_section_stores_16_bits(tmp_path: Path) -> None:
    record = record_of(tmp_path, None)
    assert record.precision is Precision.BF16
    assert record.storage(Precision.BF16) is None
    assert record.notes == ()


def test_its_own_storage_answers_to_width_and_name_and_other_precisions_to_theirs(tmp_path: Path) -> None:
    record = record_of(tmp_path, BLOCKS)
    assert record.storage("fp8") == record.storage("fp8_block")
    assert record.storage("fp4") == FORMATS[Precision.FP4]
    assert record.storage("fp8_tensor") == FORMATS[Precision.FP8_TENSOR]


@pytest.mark.parametrize(
    ("section", "components"),
    [
        (BLOCKS | {"modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate"]}, ("attention", "moe")),
        (BLOCKS | {"modules_to_not_convert": ["self_attn"]}, ("moe",)),
        ({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}, ("moe",)),
        (
            modelopt("NVFP4", ignore=["model.layers.*.self_attn*"]),
            ("moe",),
        ),
        (
            modelopt("FP8", exclude_modules=["*.mlp.experts.*"]),
            ("attention",),
        ),
        (compressed({"num_bits": 8, "type": "float"}, ignore=["re:.*self_attn.*"]), ("moe",)),
        (BLOCKS | {"modules_to_not_convert": [f"model.layers.{i}.self_attn" for i in range(4)]}, ("moe",)),
    ],
)
def test_modules_that_are_kept_take_their_component_out(
    tmp_path: Path, section: dict[str, object], components: tuple[str, ...]
) -> None:
    record = record_of(tmp_path, section, MOE)
    storage = record.storage(record.precision or "")
    assert storage is not None
    assert storage.components == components


def test_a_group_may_name_what_it_quantises(tmp_path: Path) -> None:
    section = compressed({"num_bits": 8, "type": "float"})
    section["config_groups"]["group_0"]["targets"] = ["re:.*mlp.experts.*"]
    assert record_of(tmp_path, section, MOE).stored[Precision.FP8].components == ("moe",)


def test_deepseek_with_blocks_is_the_shipped_model_stored_as_its_own_checkpoints_are(tmp_path: Path) -> None:
    v3 = resolve_model("deepseek-v3")
    figures = v3.config.model_dump(mode="json")
    figures["rope_scaling"]["type"] = "yarn"
    record = record_of(tmp_path, BLOCKS, figures | {"architectures": ["DeepseekV3ForCausalLM"]})
    assert (record.key, record.graph_key) == ("deepseek-v3", "deepseek-v3")
    assert record.precision is Precision.FP8
    assert record.storage("fp8").dtype == v3.storage("fp8").dtype == "fp8_block"
    of_other_models = {"indexer", "mamba", "linear_attention", "moe_latent"}
    assert set(record.storage("fp8").components) == set(v3.storage("fp8").components) - of_other_models


def test_a_component_that_is_partly_kept_is_counted_as_its_larger_part_and_said(tmp_path: Path) -> None:
    kept = [f"model.layers.{i}.self_attn" for i in range(3)]
    record = record_of(tmp_path, BLOCKS | {"modules_to_not_convert": kept})
    assert record.stored[Precision.FP8].components == ("mlp",)
    assert "config.json stores 25% of attention in fp8_block; all is counted in 16 bits" in record.notes


def test_a_file_that_keeps_everything_stores_16_bits(tmp_path: Path) -> None:
    record = record_of(tmp_path, BLOCKS | {"modules_to_not_convert": ["model.layers.*"]})
    assert record.precision is Precision.BF16
    assert record.notes == ("config.json keeps every product in 16 bits",)


def test_scales_of_a_cache_are_said(tmp_path: Path) -> None:
    section = modelopt("FP8", kv_cache_quant_algo="FP8")
    assert "KV cache in FP8" in record_of(tmp_path, section).notes[-1]


def test_how_weights_are_stored_is_part_of_the_hash_and_not_of_the_graphs(tmp_path: Path) -> None:
    plain, blocks = record_of(tmp_path, None), record_of(tmp_path, BLOCKS)
    assert plain.graph_key == blocks.graph_key
    assert plain.content_hash != blocks.content_hash


@pytest.mark.parametrize(
    ("section", "path", "message"),
    [
        ("fp8", "quantization_config", "must be a mapping"),
        ({}, "quantization_config.quant_method", "must be one of fp8, "),
        ({"quant_method": "fp9"}, "quantization_config.quant_method", "did you mean fp8"),
        (
            {"quant_method": "bitsandbytes"},
            "quantization_config.quant_method",
            "awq, gptq",
        ),
        (BLOCKS | {"weight_block_size": [64, 64]}, "quantization_config.weight_block_size", "[64, 64]"),
        (BLOCKS | {"fmt": "e5m2"}, "quantization_config.fmt", "must be e4m3"),
        (modelopt("W4A8"), "quantization_config.quant_algo", "NVFP4"),
        ({"quant_method": "awq"}, "quantization_config.bits", "whole number"),
        (BLOCKS | {"ignore": "lm_head"}, "quantization_config.ignore", "list of module names"),
        (BLOCKS | {"ignore": ["re:("]}, "quantization_config.ignore", "regular expression"),
        ({"quant_method": "compressed-tensors"}, "quantization_config.config_groups", "groups"),
        (compressed({"type": "float"}), "quantization_config.config_groups", "num_bits"),
    ],
)
def test_a_section_that_is_not_of_its_form_is_refused_at_its_line(
    tmp_path: Path, section: object, path: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        record_of(tmp_path, section)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert message in str(problem)
    assert problem.line is not None


@pytest.mark.parametrize(
    ("section", "given"),
    [
        ({"quant_method": "awq", "bits": 3, "group_size": 128}, "int3_g128 (awq)"),
        ({"quant_method": "gptq", "bits": 3, "group_size": -1}, "int3 (gptq)"),
        (compressed({"num_bits": 5, "type": "int", "group_size": 64}), "int5_g64 (compressed-tensors)"),
    ],
)
def test_a_type_that_no_precision_stores_is_refused_with_the_list(
    tmp_path: Path, section: dict[str, object], given: str
) -> None:
    with pytest.raises(InputError) as caught:
        record_of(tmp_path, section)
    (problem,) = caught.value.problems
    assert problem.given == given
    assert all(storage.dtype in problem.requirement for storage in FORMATS.values())


def test_groups_of_two_types_are_refused(tmp_path: Path) -> None:
    section = compressed({"num_bits": 8, "type": "float"})
    section["config_groups"]["other"] = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float"}}
    with pytest.raises(InputError, match="in one type; given fp8, nvfp4"):
        record_of(tmp_path, section)


def test_every_method_of_the_table_in_the_docstring_is_known() -> None:
    import model_graphs.quantization as module

    assert module.__doc__ is not None
    lines = [line for line in module.__doc__.splitlines() if line.startswith("| ")]
    named = {name.strip() for line in lines[1:] for name in line.split("|")[1].split(",")}
    assert named == set(_METHODS)


def hybrid(key: str, architecture: str) -> dict[str, object]:
    figures = resolve_model(key).config.model_dump(mode="json", exclude_none=True)
    return {"architectures": [architecture], **figures}


def test_recurrent_layers_are_found_under_the_names_that_files_have_for_them(tmp_path: Path) -> None:
    """Modules as NVIDIA's 4-bit files of Qwen3.5 name them, and layers of one part each as Nemotron does."""
    trunk = "model.language_model.layers"
    kept = ["*.mlp.shared_expert.*", f"{trunk}.*.linear_attn*", f"{trunk}.*.self_attn*"]
    qwen = hybrid("qwen3.5-397b-a17b", "Qwen3_5MoeForConditionalGeneration")
    found = record_of(tmp_path, modelopt("NVFP4", exclude_modules=kept), qwen).storage("fp4")
    assert found is not None
    assert found.components == ("moe",)
    layers = resolve_model("nemotron-nano-v2-9b").blueprint.layers
    rows = [i for i, layer in enumerate(layers) if layer.name == "attention_layer"]
    kept = [f"backbone.layers.{i}.mixer.{name}_proj" for i in rows for name in "qkvo"]
    nano = hybrid("nemotron-nano-v2-9b", "NemotronHForCausalLM")
    found = record_of(tmp_path, modelopt("NVFP4", exclude_modules=kept), nano).storage("fp4")
    assert found is not None
    assert set(found.components) == {"mamba", "mlp"}
