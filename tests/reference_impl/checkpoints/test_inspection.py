"""Every way in which a checkpoint can be wrong is told, and all at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import GPT_OSS, LLAMA, TINY, written

from hardware_specs.records.errors import InputError, Problem
from reference_impl.checkpoints.folder import INDEX
from reference_impl.checkpoints.inspection import inspect_checkpoint

Tensors = dict[str, torch.Tensor]
DOWN = "model.layers.0.mlp.down_proj.weight"


def problems_of(folder: Path) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        inspect_checkpoint(folder)
    return caught.value.problems


def edited(folder: Path, name: str, edit: Callable[[Tensors], None]) -> None:
    """Change the tensors of the shard that holds `name`, and let the index follow its bytes."""
    index = json.loads((folder / INDEX).read_text())
    file = folder / index["weight_map"][name]
    tensors = load_file(file)
    index["metadata"]["total_size"] -= sum(tensor.nbytes for tensor in tensors.values())
    for held in tensors:
        del index["weight_map"][held]
    edit(tensors)
    save_file(tensors, file)
    index["metadata"]["total_size"] += sum(tensor.nbytes for tensor in tensors.values())
    index["weight_map"] |= dict.fromkeys(tensors, file.name)
    (folder / INDEX).write_text(json.dumps(index))


def indexed(folder: Path, edit: Callable[[dict[str, dict[str, object]]], None]) -> None:
    index = json.loads((folder / INDEX).read_text())
    edit(index)
    (folder / INDEX).write_text(json.dumps(index))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    written(LLAMA, tmp_path)
    return tmp_path


def test_a_checkpoint_without_a_fault_is_accepted(llama: Path) -> None:
    assert {form.name for form in inspect_checkpoint(llama).forms.values()} == {"plain"}


def test_a_misnamed_tensor_is_missing_and_unexpected_with_the_nearest_name(llama: Path) -> None:
    edited(llama, DOWN, lambda t: t.update({DOWN.replace("down", "dwn"): t.pop(DOWN)}))
    missing, unexpected = problems_of(llama)
    assert (missing.path, missing.requirement) == (DOWN, "must be in the checkpoint")
    assert missing.suggestion == unexpected.path == DOWN.replace("down", "dwn")
    assert unexpected.requirement.startswith("is no tensor of the model")


def test_a_tensor_of_another_shape_is_told_with_both_shapes(llama: Path) -> None:
    edited(llama, DOWN, lambda t: t.update({DOWN: torch.zeros(96, 64)}))
    (problem,) = problems_of(llama)
    assert str(problem).endswith("must have the shape [64, 96]; given [96, 64]")


def test_a_tensor_of_a_dtype_that_means_nothing_is_told(llama: Path) -> None:
    edited(llama, DOWN, lambda t: t.update({DOWN: torch.zeros(64, 96, dtype=torch.int8)}))
    (problem,) = problems_of(llama)
    assert (problem.path, problem.given) == (DOWN, "I8")


def test_total_size_must_be_the_bytes_of_the_headers(llama: Path) -> None:
    indexed(llama, lambda index: index["metadata"].update(total_size=1234))
    (problem,) = problems_of(llama)
    assert problem.path == "metadata.total_size"
    assert problem.given == "1,234"


def test_an_index_without_total_size_is_refused(llama: Path) -> None:
    indexed(llama, lambda index: index.pop("metadata"))
    assert [problem.given for problem in problems_of(llama)] == ["nothing"]


def test_names_of_index_and_shards_must_agree_both_ways(llama: Path) -> None:
    def swap(index: dict[str, dict[str, object]]) -> None:
        index["weight_map"]["model.layers.7.new.weight"] = index["weight_map"].pop(DOWN)

    indexed(llama, swap)
    found = {problem.path: problem.requirement for problem in problems_of(llama)}
    assert set(found) == {DOWN, "model.layers.7.new.weight"}
    assert found["model.layers.7.new.weight"].endswith(f"as {INDEX} says")
    assert found[DOWN].startswith(f"must be in {INDEX}")


def test_a_truncated_shard_is_told_with_what_its_header_says(llama: Path) -> None:
    file = sorted(llama.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-100])
    (problem,) = problems_of(llama)
    assert problem.file == str(file)
    assert problem.given.endswith("the file is truncated")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x05", (10**12).to_bytes(8, "little") + b"{}", b"\x02" + b"\0" * 7 + b"[]", b"\x02" + b"\0" * 9],
    ids=["empty", "short", "long header", "no mapping", "no json"],
)
def test_a_shard_without_a_readable_header_is_one_problem(llama: Path, content: bytes) -> None:
    file = sorted(llama.glob("*.safetensors"))[0]
    file.write_bytes(content)
    (problem,) = problems_of(llama)
    assert problem.file == str(file)


def test_a_missing_shard_is_one_problem(llama: Path) -> None:
    file = sorted(llama.glob("*.safetensors"))[0]
    file.unlink()
    (problem,) = problems_of(llama)
    assert (problem.file, problem.given) == (str(file), "No such file or directory")


def test_a_header_whose_offsets_are_not_those_of_the_shape_is_refused(llama: Path) -> None:
    file = sorted(llama.glob("*.safetensors"))[0]
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    header[name]["dtype"] = "F64"
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert any(problem.path == name and "bytes: F64" in problem.requirement for problem in problems_of(llama))


def test_an_index_that_points_out_of_its_folder_is_refused(llama: Path) -> None:
    indexed(llama, lambda index: index["weight_map"].update({DOWN: "../other.safetensors"}))
    (problem,) = problems_of(llama)
    assert problem.given == "'../other.safetensors'"


@pytest.mark.parametrize(
    ("file", "given"),
    [
        ("pytorch_model.bin", "runs code when it is read"),
        ("model.pt", "runs code when it is read"),
        ("model-00001-of-00002.safetensors", "1 shards without their index"),
    ],
)
def test_only_safetensors_with_an_index_are_read(tmp_path: Path, file: str, given: str) -> None:
    (tmp_path / file).touch()
    found = problems_of(tmp_path)
    assert given in found[0].given
    assert found[1].file == str(tmp_path / "config.json")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "nothing")[0].given == "no folder"


def test_all_problems_are_told_at_once(llama: Path) -> None:
    edited(llama, DOWN, lambda t: t.update({DOWN: torch.zeros(3, 3)}))
    edited(llama, "lm_head.weight", lambda t: t.update({"head": t.pop("lm_head.weight")}))
    indexed(llama, lambda index: index["metadata"].update(total_size=1))
    assert {problem.path for problem in problems_of(llama)} == {
        DOWN,
        "lm_head.weight",
        "head",
        "metadata.total_size",
    }


def test_a_flood_of_problems_is_cut_with_its_size(tmp_path: Path) -> None:
    written(TINY, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"n_routed_experts": 40}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = problems_of(tmp_path)
    # 24 experts more of three matrices in three layers and the MTP module, the first 50 of them told
    assert sum(problem.requirement == "must be in the checkpoint" for problem in found) == 50
    assert f"and {24 * 3 * 4 - 50:,} more problems like the last one" in {p.requirement for p in found}


def test_fp8_needs_its_scales(tmp_path: Path) -> None:
    written(TINY, tmp_path, "fp8_block")
    edited(tmp_path, DOWN, lambda t: t.pop(f"{DOWN}_scale_inv"))
    (problem,) = problems_of(tmp_path)
    assert (problem.path, problem.given) == (DOWN, "none")


def test_scales_must_be_those_of_blocks_of_128(tmp_path: Path) -> None:
    written(TINY, tmp_path, "fp8_block")
    edited(tmp_path, DOWN, lambda t: t.update({f"{DOWN}_scale_inv": torch.ones(2, 4)}))
    (problem,) = problems_of(tmp_path)
    assert problem.requirement == "must be scales of shape [1, 2]"


def test_mxfp4_needs_scales_of_32(tmp_path: Path) -> None:
    written(GPT_OSS, tmp_path, "mxfp4")
    name = "model.layers.1.mlp.experts.down_proj_scales"
    edited(tmp_path, name, lambda t: t.update({name: torch.zeros(4, 64, 2, dtype=torch.uint8)}))
    (problem,) = problems_of(tmp_path)
    assert (problem.path, problem.requirement) == (name, "must be U8 of shape [4, 64, 1]")


def test_tables_and_scales_of_activations_are_passed_over(llama: Path) -> None:
    names = "model.layers.0.self_attn.rotary_emb.inv_freq", f"{DOWN[:-6]}input_scale"
    extra = {name: torch.ones(1) for name in names}
    edited(llama, DOWN, lambda t: t.update(extra))
    assert DOWN in inspect_checkpoint(llama).forms


@pytest.mark.parametrize("shape", [(), (1,), (64, 1)])
def test_fp8_with_a_scale_a_tensor_or_a_row_is_read(llama: Path, shape: tuple[int, ...]) -> None:
    from reference_impl.checkpoints.reader import load_checkpoint

    codes = torch.full((64, 96), 1.5).to(torch.float8_e4m3fn)
    edited(llama, DOWN, lambda t: t.update({DOWN: codes, f"{DOWN}_scale": torch.full(shape, 0.25)}))
    read = load_checkpoint(llama, torch.float32).state_dict()["layers.0.mlp.down_proj.weight"]
    assert (read == 0.375).all()
