import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from parity import mtp_logits
from safetensors.torch import load_file, save_file
from tiny import distance, positions_of
from tiny_models import GPT_OSS, LLAMA, MODELS, QWEN3_MOE, SHARD_BYTES, SPARSE, TINY, made, written

from hardware_specs.records.errors import InputError
from model_graphs.architectures import ModelConfig
from model_graphs.config_json import read_config_json
from reference_impl.checkpoints import pieces
from reference_impl.checkpoints.folder import INDEX
from reference_impl.checkpoints.forms import E2M1, to_fp8_block, to_mxfp4
from reference_impl.checkpoints.inspection import inspect_checkpoint
from reference_impl.checkpoints.reader import load_checkpoint, read_quantised
from reference_impl.checkpoints.writer import write_checkpoint
from reference_impl.published_names import NAMES, USUAL, Make, Names, Recipe

#: of `transformers`' logits, which here differ by summation order alone
TOLERANCE = 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path: Path, config: ModelConfig, dtype: torch.dtype
) -> None:
    model = written(config, tmp_path, dtype=dtype)
    read = load_checkpoint(tmp_path, dtype)
    assert read.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name


@pytest.mark.parametrize("form", ["plain", "fp8_block"])
@pytest.mark.parametrize("config", [TINY, LLAMA, QWEN3_MOE], ids=["deepseek", "llama", "qwen3-moe"])
def test_the_config_that_is_written_is_the_models(tmp_path: Path, config: ModelConfig, form: str) -> None:
    written(config, tmp_path, form)
    assert read_config_json(tmp_path / "config.json") == (config.names[0], config)


def test_shards_are_no_larger_than_asked_and_the_index_counts_their_bytes(tmp_path: Path) -> None:
    written(TINY, tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    inspection = inspect_checkpoint(tmp_path)
    per_file = [sum(e.n_bytes for e in inspection.folder.in_file(f)) for f in inspection.folder.files]
    largest = max(entry.n_bytes for entry in inspection.folder.entries.values())
    assert len(per_file) > 10
    assert max(per_file) <= max(SHARD_BYTES, largest)
    assert index["metadata"]["total_size"] == sum(per_file)
    assert set(index["weight_map"].values()) == set(inspection.folder.files)


def test_the_hub_names_of_deepseek_are_one_matrix_an_expert_and_mtp_as_the_layer_after_the_last(
    tmp_path: Path,
) -> None:
    written(TINY, tmp_path, "fp8_block")
    names = inspect_checkpoint(tmp_path).folder.entries
    assert names["model.layers.1.mlp.experts.15.gate_proj.weight"].shape == (64, 128)
    assert names["model.layers.1.mlp.experts.15.gate_proj.weight_scale_inv"].shape == (1, 1)
    assert names["model.layers.0.mlp.down_proj.weight_scale_inv"].shape == (1, 2)
    assert names["model.layers.4.eh_proj.weight"].dtype == "F32"
    assert {name for name in names if "shared_head" in name} == {
        "model.layers.4.shared_head.norm.weight",
        "model.layers.4.shared_head.head.weight",
    }
    assert not any("layers.5." in name for name in names)


def test_products_of_an_indexer_are_in_fp8_and_the_weights_of_its_heads_are_not(tmp_path: Path) -> None:
    model = written(SPARSE, tmp_path, "fp8_block").state_dict()
    read = load_checkpoint(tmp_path, torch.float32).state_dict()
    indexer = {name: tensor for name, tensor in read.items() if "layers.1.self_attn.indexer" in name}
    changed = {
        name.split(".")[-2] for name, tensor in indexer.items() if not torch.equal(tensor, model[name])
    }
    assert changed == {"wq_b", "wk"}
    assert {name.split(".")[-2] for name in indexer} == {"wq_b", "wk", "k_norm", "weights_proj"}


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written(GPT_OSS, tmp_path / name, "mxfp4")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize(
    "config", [MODELS[key] for key in ("deepseek", "llama", "qwen3-moe", "minimax")], ids=lambda c: c.names[0]
)
def test_fp8_weights_come_back_within_half_a_step_of_e4m3(tmp_path: Path, config: ModelConfig) -> None:
    model = written(config, tmp_path, "fp8_block")
    read = load_checkpoint(tmp_path, torch.float32).state_dict()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, read[name])}
    assert changed == {name for name in read if "proj" in name and "eh_proj" not in name}
    for name in changed:
        tensor = model.state_dict()[name]
        # 3 mantissa bits: 2^-4 of a normal value; below 2^-6 of the scale steps of 2^-9; scale <= max / 448
        bound = (tensor.abs() * 2**-4).clamp(min=tensor.abs().max() / 448 * 2**-10)
        assert ((read[name] - tensor).abs() <= bound * 1.001).all(), name


@pytest.mark.parametrize(
    "key",
    ["deepseek", "deepseek sparse", "deepseek lite", "llama", "qwen2", "qwen3-moe", "gpt-oss", "minimax"],
)
def test_transformers_reads_the_checkpoint_and_gives_the_same_logits(tmp_path: Path, key: str) -> None:
    config = MODELS[key]
    model = written(config, tmp_path)
    _same_logits(tmp_path, config, model)


@pytest.mark.parametrize(
    ("key", "form"), [("deepseek", "fp8_block"), ("qwen3-moe", "fp8_block"), ("gpt-oss", "mxfp4")]
)
def test_transformers_dequantises_the_checkpoint_to_the_same_logits(
    tmp_path: Path, key: str, form: str
) -> None:
    pytest.importorskip("accelerate", reason="transformers reads quantised checkpoints with accelerate alone")
    written(MODELS[key], tmp_path, form)
    _same_logits(tmp_path, MODELS[key], load_checkpoint(tmp_path, torch.float32))


@torch.no_grad()
def _same_logits(folder: Path, config: ModelConfig, model: torch.nn.Module) -> None:
    import transformers

    kind = getattr(transformers, config.names[0])
    oracle = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(0, config.vocab_size, (2, 20))
    assert distance(model(ids, positions_of(ids))[0], oracle(ids, use_cache=False).logits) < TOLERANCE


def test_fp8_blocks_mean_what_transformers_takes_them_for(tmp_path: Path) -> None:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    written(TINY, tmp_path, "fp8_block")
    name = "model.layers.0.mlp.gate_proj.weight"  # [256, 128]: two blocks
    stored = read_quantised(inspect_checkpoint(tmp_path), name)
    wanted = Fp8Dequantize(None)._dequantize_one(stored.codes, stored.scales, torch.float32)
    read = load_checkpoint(tmp_path, torch.float32).state_dict()["layers.0.mlp.gate_up_proj.weight"]
    assert stored.scales.shape == (2, 1)
    assert stored.scales[0] != stored.scales[1]
    assert torch.equal(read[:256], wanted)


def test_mxfp4_means_what_transformers_takes_it_for(tmp_path: Path) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    written(GPT_OSS, tmp_path, "mxfp4")
    stored = read_quantised(inspect_checkpoint(tmp_path), "model.layers.0.mlp.experts.gate_up_proj")
    wanted = convert_moe_packed_tensors(stored.codes, stored.scales, dtype=torch.float32)
    read = load_checkpoint(tmp_path, torch.float32).state_dict()["layers.0.mlp.routed.experts.gate_up_proj"]
    assert torch.equal(read[:, :32], wanted[..., 0::2].transpose(1, 2))
    assert torch.equal(read[:, 32:], wanted[..., 1::2].transpose(1, 2))


def test_mxfp4_by_hand() -> None:
    # largest 5 -> exponent floor(log2 5) - 2 = 0, stored 127; 5, half-way between 4 and 6, goes to even 4
    row = torch.zeros(1, 32)
    row[0, :5] = torch.tensor([5.0, -0.5, 0.25, 0.75, 3.4])
    stored = to_mxfp4("x", row)
    codes = [6, 8 + 1, 0, 2, 5]  # 4, -0.5, 0 (tie of 0 and 0.5), 1 (tie of 0.5 and 1), 3
    assert stored["x_scales"].tolist() == [[127]]
    packed = [codes[0] | codes[1] << 4, codes[2] | codes[3] << 4, codes[4]]
    assert stored["x_blocks"][0, 0, :3].tolist() == packed
    assert [E2M1[code & 7] for code in codes] == [4.0, 0.5, 0.0, 1.0, 3.0]


def test_fp8_blocks_by_hand() -> None:
    # a block whose largest is 896 has scale 2; the second block, of columns 128 and on, has scale 1/448
    matrix = torch.zeros(2, 130)
    matrix[0, 0], matrix[1, 1], matrix[1, 129] = 896.0, 3.0, 1.0
    stored = to_fp8_block("w", matrix)
    assert stored["w_scale_inv"].flatten().tolist() == pytest.approx([2.0, 1 / 448])
    assert stored["w"].float()[1, [1, 129]].tolist() == [1.5, 448.0]


def test_writing_a_read_mxfp4_model_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    written(GPT_OSS, tmp_path / "first", "mxfp4")
    read = load_checkpoint(tmp_path / "first", torch.float32)
    files = write_checkpoint(read, GPT_OSS, tmp_path / "second", SHARD_BYTES, "mxfp4")
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize(("config", "form"), [(LLAMA, "mxfp4"), (GPT_OSS, "fp8_block"), (LLAMA, "fp8")])
def test_a_form_that_the_architecture_does_not_have_is_refused(
    tmp_path: Path, config: ModelConfig, form: str
) -> None:
    with pytest.raises(InputError, match="form  must be one of plain, "):
        write_checkpoint(made(config), config, tmp_path, SHARD_BYTES, form)


def test_weights_without_scales_are_not_read_as_quantised(tmp_path: Path) -> None:
    written(LLAMA, tmp_path)
    with pytest.raises(InputError, match="stored in codes and scales; given plain"):
        read_quantised(inspect_checkpoint(tmp_path), "model.layers.0.mlp.up_proj.weight")


@torch.no_grad()
def test_transformers_finds_the_mtp_module_as_the_layer_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import DeepseekV3ForCausalLM
    from transformers.modeling_layers import MtpModel

    written(TINY, tmp_path)
    layers = [r"model\.layers\.4.*"]  # it looks for them at 61 alone
    monkeypatch.setattr(DeepseekV3ForCausalLM, "_keys_to_ignore_on_load_unexpected", layers)
    oracle = DeepseekV3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    oracle.set_attn_implementation("eager")
    oracle_mtp = MtpModel.from_pretrained(oracle).eval()
    ids = torch.randint(0, TINY.vocab_size, (2, 20))
    hidden = oracle.model(ids).last_hidden_state[:, :-1]
    shifted = torch.arange(1, ids.shape[1])[None]
    wanted = oracle.lm_head(oracle_mtp.forward_layer(0, hidden, shifted, None, input_ids=ids[:, 1:]))
    assert distance(mtp_logits(load_checkpoint(tmp_path, torch.float32), ids), wanted) < TOLERANCE


@torch.no_grad()
def test_gate_and_up_of_experts_in_the_wrong_order_break_parity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    model = written(MODELS["minimax"], tmp_path)
    mistaken = {"MiniMaxM2ForCausalLM": ("block_sparse_moe", "w3", "w1", "w2")}
    monkeypatch.setattr(pieces, "_EXPERT_NAMES", mistaken)
    wrong = load_checkpoint(tmp_path, torch.float32)
    oracle = transformers.MiniMaxM2ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(0, 96, (2, 20))
    wanted = oracle(ids, use_cache=False).logits
    assert distance(model(ids, positions_of(ids))[0], wanted) < TOLERANCE
    assert distance(wrong(ids, positions_of(ids))[0], wanted) > 0.1


def test_experts_of_a_layer_in_one_tensor_are_read_too(tmp_path: Path) -> None:
    """As `transformers` holds them in memory, and as newer checkpoints are published."""
    config = MODELS["qwen3-moe"]
    model = written(config, tmp_path)
    state = {}
    for file in tmp_path.glob("*.safetensors"):
        state |= {name: tensor for name, tensor in load_file(file).items() if ".experts." not in name}
        file.unlink()
    (tmp_path / INDEX).unlink()
    for i, layer in enumerate(model.layers):
        for leaf in ("gate_up_proj", "down_proj"):
            state[f"model.layers.{i}.mlp.experts.{leaf}"] = getattr(layer.mlp.routed.experts, leaf).data
    save_file(state, tmp_path / "model.safetensors")
    read = load_checkpoint(tmp_path, torch.float32).state_dict()
    assert all(torch.equal(tensor, read[name]) for name, tensor in model.state_dict().items())


def with_down(make: Make) -> Names:
    """Usual names, the down product of a layer computed in some way."""
    return replace(USUAL, tensors={"mlp.down_proj.weight": Recipe(("mlp.down_proj.weight",), make)})


def test_a_tensor_that_is_computed_from_published_ones_is_read_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = written(LLAMA, tmp_path)
    monkeypatch.setitem(NAMES, "LlamaForCausalLM", with_down(lambda tensors: tensors[0] + 1))
    read = load_checkpoint(tmp_path, torch.float32).state_dict()["layers.1.mlp.down_proj.weight"]
    assert torch.equal(read, model.layers[1].mlp.down_proj.weight + 1)
    with pytest.raises(InputError, match="can be read and not written") as caught:
        write_checkpoint(model, LLAMA, tmp_path, SHARD_BYTES)
    assert len(caught.value.problems) == 2
    monkeypatch.setitem(NAMES, "LlamaForCausalLM", with_down(lambda tensors: tensors[0].T))
    with pytest.raises(InputError, match=r"must make a tensor of shape \[64, 96\]; given \[64, 96\]"):
        inspect_checkpoint(tmp_path)
