"""A checkpoint into the model: each tensor goes from its memory-mapped shard straight into its parameter.

Beside the model there is one shard mapped at a time, and a strip of 128 rows, or one expert, where values
are made from codes and scales; what some families compute from whole published tensors takes those too.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem
from reference_impl.checkpoints.forms import BLOCK, read_into
from reference_impl.checkpoints.inspection import Inspection, inspect_checkpoint
from reference_impl.decoder import Decoder, build_model

Tick = Callable[[int, int], None]


def load_checkpoint(
    path: Path, dtype: torch.dtype = torch.bfloat16, tick: Tick = lambda done, total: None
) -> Decoder:
    """The model of a checkpoint's folder, its parameters in a dtype; FP8 and MXFP4 weights are dequantised.

    Raises:
        InputError: with every problem of the checkpoint (see `inspect_checkpoint`), or where a tensor that
            repeats another one differs from it.
    """
    inspection = inspect_checkpoint(path)
    model = build_model(inspection.config.blueprint, dtype)
    _fill(model, inspection, tick)
    problems = list(_unequal_copies(model, inspection))
    if problems:
        raise InputError(*problems)
    return model


@dataclass(frozen=True)
class Quantised:
    """A published tensor as it is stored: codes and their scales."""

    form: str
    codes: Tensor
    scales: Tensor


def read_quantised(inspection: Inspection, name: str) -> Quantised:
    """A published tensor with its scales, not dequantised; both are mapped from their files.

    Raises:
        InputError: there is no such tensor, or it is stored without scales.
    """
    form = inspection.forms.get(name)
    if form is None or form.name == "plain":
        requirement = "must be a tensor that is stored in codes and scales"
        raise InputError(Problem(requirement, "none" if form is None else form.name, path=name))
    with ExitStack() as opened:
        codes, scales = (_Shards(inspection, opened).tensor(part) for part in form.tensors)
        return Quantised(form.name, codes, scales)


class _Shards:
    """Shards of a folder, opened when a tensor of them is asked for."""

    def __init__(self, inspection: Inspection, opened: ExitStack) -> None:
        self._inspection = inspection
        self._opened = opened
        self._files: dict[str, Any] = {}

    def tensor(self, name: str) -> Tensor:
        """The tensor, mapped from its file."""
        folder = self._inspection.folder
        file = folder.entries[name].file
        if file not in self._files:
            self._files[file] = self._opened.enter_context(safe_open(folder.path / file, "pt"))
        tensor = self._files[file].get_tensor(name)
        assert isinstance(tensor, Tensor)
        return tensor


@torch.no_grad()
def _fill(model: Decoder, inspection: Inspection, tick: Tick) -> None:
    """Fill the parameters shard by shard; a shard is let go before the next one is opened."""
    state = model.state_dict()
    computed = {name for one in inspection.made for name in one.names}
    direct = inspection.forms.keys() - computed
    first = {inspection.forms[name].tensors[0]: name for name in direct}
    done = 0
    for file in inspection.folder.files:
        with ExitStack() as opened:
            shards = _Shards(inspection, opened)
            for entry in inspection.folder.in_file(file):
                if entry.name in first:
                    piece, form = inspection.pieces[first[entry.name]], inspection.forms[first[entry.name]]
                    tensors = tuple(shards.tensor(name) for name in form.tensors)
                    read_into(piece.view(state[piece.target]), form.name, tensors)
                    del tensors
                    done += 1
                    tick(done, len(first))
    _compute(state, inspection)


def _compute(state: Mapping[str, Tensor], inspection: Inspection) -> None:
    """Fill what is no view of published tensors: those are read whole, one parameter at a time."""
    for one in inspection.made:
        sources = []
        with ExitStack() as opened:
            shards = _Shards(inspection, opened)
            for name in one.names:
                form = inspection.forms[name]
                source = torch.empty(inspection.pieces[name].shape, dtype=state[one.target].dtype)
                read_into(source, form.name, tuple(shards.tensor(part) for part in form.tensors))
                sources.append(source)
        state[one.target].copy_(one.make(sources))


@torch.no_grad()
def _unequal_copies(model: Decoder, inspection: Inspection) -> Iterator[Problem]:
    """Copies of embedding and head that are not what they repeat, compared strip by strip."""
    state = model.state_dict()
    for copy, origin in inspection.copies.items():
        piece = inspection.pieces[origin]
        wanted = piece.view(state[piece.target])
        with ExitStack() as opened:
            given = _Shards(inspection, opened).tensor(copy)
            strips = zip(given.split(BLOCK), wanted.split(BLOCK), strict=True)
            if not all(torch.equal(a.to(b.dtype), b) for a, b in strips):
                file = inspection.folder.entries[copy].file
                yield Problem(f"must equal {origin}, which it repeats", "other values", file, path=copy)
