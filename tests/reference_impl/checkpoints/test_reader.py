"""Memory of reading, counted twice: new tensors by a dispatch mode, anonymous pages by the kernel."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import LLAMA, MODELS, TINY, made, written
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hardware_specs.records.errors import InputError
from reference_impl.checkpoints import reader
from reference_impl.checkpoints.forms import read_into
from reference_impl.checkpoints.reader import load_checkpoint
from reference_impl.checkpoints.writer import write_checkpoint

STATUS = Path("/proc/self/status")


class LiveBytes(TorchDispatchMode):
    """The most bytes that operators' results held at once, storages of `given` tensors left out."""

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._given = {tensor.untyped_storage().data_ptr() for tensor in given}
        self._made: list[weakref.ref[Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else [result]
        self._made += [weakref.ref(tensor) for tensor in made if isinstance(tensor, Tensor)]
        alive = [tensor.untyped_storage() for ref in self._made if (tensor := ref()) is not None]
        sizes = {storage.data_ptr(): storage.nbytes() for storage in alive}
        self.peak = max(self.peak, sum(n for pointer, n in sizes.items() if pointer not in self._given))
        return result


def model_bytes(model: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    ("key", "form", "limit_bytes"),
    [
        ("deepseek", "plain", 0),
        ("gpt-oss", "plain", 0),
        # a strip of 128 rows of 256 columns in fp32, and the scales of its columns
        ("deepseek", "fp8_block", 128 * 256 * 4 + 256 * 4 + 2 * 4),
        # an expert of 64 x 64: codes and their halves in a byte, twice; indices and values in 4 bytes, twice
        ("gpt-oss", "mxfp4", 64 * 64 * (2 + 2 * 4 + 2 * 4)),
    ],
)
def test_beside_file_and_model_a_tensor_takes_a_strip_or_an_expert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, form: str, limit_bytes: int
) -> None:
    peaks = []

    def counted(view: Tensor, form: str, tensors: tuple[Tensor, ...]) -> None:
        with LiveBytes([view, *tensors]) as live:
            read_into(view, form, tensors)
        peaks.append(live.peak)

    written(MODELS[key], tmp_path, form)
    monkeypatch.setattr(reader, "read_into", counted)
    load_checkpoint(tmp_path, torch.float32)
    assert max(peaks) <= limit_bytes
    assert (max(peaks) == 0) == (form == "plain")


@pytest.mark.skipif(not STATUS.exists(), reason="anonymous pages are read from /proc of Linux")
def test_pages_of_the_files_are_mapped_and_not_copied(tmp_path: Path) -> None:
    wide = LLAMA.model_copy(update={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 3})
    write_checkpoint(made(wide), wide, tmp_path, 8_000_000)
    before = anonymous_bytes()
    held: list[int] = []
    read = load_checkpoint(tmp_path, torch.float32, lambda done, total: held.append(anonymous_bytes()))
    assert model_bytes(read) > 100e6
    assert max(held) - before < model_bytes(read) + 12e6  # the largest tensor takes 9.4 MB


def anonymous_bytes() -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def test_progress_counts_every_tensor_once(tmp_path: Path) -> None:
    written(LLAMA, tmp_path)
    seen: list[tuple[int, int]] = []
    load_checkpoint(tmp_path, torch.float32, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, len(seen)) for i in range(len(seen))]
    assert len(seen) == 3 + 2 * 9  # embedding, final norm, head; two layers of seven matrices and two norms


def test_a_copy_that_differs_from_what_it_repeats_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    written(TINY, tmp_path)
    name = "model.layers.4.embed_tokens.weight"
    for file in tmp_path.glob("*.safetensors"):
        tensors = load_file(file)
        if name in tensors:
            tensors[name][300, 5] += 1
            save_file(tensors, file)
    with pytest.raises(InputError, match=rf"{name}  must equal model.embed_tokens.weight"):
        load_checkpoint(tmp_path, torch.float32)
