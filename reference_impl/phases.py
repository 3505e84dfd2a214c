"""The phases of a model that are exported: what runs, on which example inputs, with which symbolic axes.

Symbols are B sequences, S new tokens and T past tokens a sequence. `prefill` runs naive attention on an
empty cache; `chunked_prefill` and `decode` run absorbed attention on T past tokens; `mtp` is one decode
step of the first multi-token prediction module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export
from torch.utils._pytree import tree_map_only

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.graph_io import PHASES
from reference_impl.decoder import Decoder, DecoderLayer, MTPStep
from reference_impl.parts.sparse_attention import SparseMLA

#: example sizes are distinct and above one: equal sizes would be one symbol, zero and one constants
EXAMPLE_SIZES = {"B": 6, "S": 10, "T": 777}
LARGEST_SIZE = 2**20


@dataclass(frozen=True)
class Axes:
    """An example input: its fixed sizes, and the symbols of the others."""

    sizes: tuple[int | str, ...]
    dtype: torch.dtype

    def example(self, device: torch.device) -> torch.Tensor:
        """A tensor of the example sizes."""
        shape = [EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in self.sizes]
        return torch.zeros(shape, dtype=self.dtype, device=device)

    @property
    def symbols(self) -> dict[int, str]:
        """Symbol by axis."""
        return {axis: size for axis, size in enumerate(self.sizes) if isinstance(size, str)}


@dataclass(frozen=True)
class Phase:
    """A module to run and its inputs; `absorbed` is the last argument of its forward."""

    root: nn.Module
    inputs: tuple[Any, ...]
    absorbed: bool

    def input_symbols(self) -> list[Mapping[int, str]]:
        """Symbols of the tensors among the inputs, in the order in which an export takes them."""
        found: list[Mapping[int, str]] = []
        tree_map_only(Axes, lambda axes: found.append(axes.symbols), self.inputs)
        return found


def phase_of(model: Decoder, name: str) -> Phase:
    """What a phase runs.

    Raises:
        InputError: there is no such phase, or the model has no multi-token prediction module.
    """
    if name not in PHASES:
        requirement = f"phase must be one of {', '.join(PHASES)}"
        raise InputError(Problem(requirement, given=name, suggestion=nearest(name, PHASES)))
    n_new = "S" if name in ("prefill", "chunked_prefill") else 1
    ids = Axes(("B", n_new), torch.int64)
    if name == "prefill":
        return Phase(model, (ids, ids, None), absorbed=False)
    if name != "mtp":
        return Phase(model, (ids, ids, [_past(layer) for layer in model.layers]), absorbed=True)
    if not len(model.mtp):
        raise InputError(Problem("phase mtp needs num_nextn_predict_layers of at least 1", given="0"))
    hidden = Axes(("B", 1, model.blueprint.hidden_size), model.embed_tokens.weight.dtype)
    return Phase(MTPStep(model), (ids, hidden, ids, _past(model.mtp[0].layer)), absorbed=True)


def _past(layer: DecoderLayer) -> Axes | tuple[Axes, Axes]:
    """The cache of a layer with T tokens in it; that of sparse attention holds the indexer's keys too."""
    mixer, dtype = layer.self_attn, layer.post_attention_norm.weight.dtype
    held = Axes(("B", "T", *mixer.cache_widths), dtype)
    return (held, Axes(("B", "T", *mixer.index_widths), dtype)) if isinstance(mixer, SparseMLA) else held


def export_phase(phase: Phase) -> ExportedProgram:
    """The phase as a program with symbolic sizes; nothing is executed."""
    device = phase.root.embed_tokens.weight.device
    dims = {name: Dim(name, min=1 if name == "B" else 2, max=LARGEST_SIZE) for name in EXAMPLE_SIZES}
    examples = tree_map_only(Axes, lambda axes: axes.example(device), phase.inputs)
    shapes = tree_map_only(
        Axes, lambda axes: {i: dims[name] for i, name in axes.symbols.items()}, phase.inputs
    )
    with torch.no_grad():
        return export(phase.root, (*examples, phase.absorbed), dynamic_shapes=(*shapes, None), strict=False)
