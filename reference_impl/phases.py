"""The phases of a model that are exported: what runs, on which example inputs, with which symbolic axes.

Symbols are B sequences, S new tokens and T past tokens a sequence. `prefill` runs naive attention on an
empty cache; `chunked_prefill` and `decode` run absorbed attention on T past tokens; `mtp` is one decode
step of the first multi-token prediction module. `encode` is the pass of an encoder, whose images all have the
same number of patches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export
from torch.utils._pytree import tree_map_only

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.blueprint import Blueprint
from model_graphs.graph_io import phases_of
from reference_impl.decoder import AnyLayer, Decoder, MTPStep
from reference_impl.encoder import Encoder, ImageEncoder, TextEncoder
from reference_impl.parts.recurrent import GatedDeltaNet, Mamba2
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
    """A module to run and its inputs; `absorbed` is the last argument of a decoder's forward."""

    root: nn.Module
    inputs: tuple[Any, ...]
    absorbed: bool | None = None

    def input_symbols(self) -> list[Mapping[int, str]]:
        """Symbols of the tensors among the inputs, in the order in which an export takes them."""
        found: list[Mapping[int, str]] = []
        tree_map_only(Axes, lambda axes: found.append(axes.symbols), self.inputs)
        return found


def phase_of(model: Decoder | Encoder, name: str) -> Phase:
    """What a phase runs.

    Raises:
        InputError: the model has no such phase.
    """
    _check(name, model.blueprint)
    if isinstance(model, TextEncoder):
        ids = Axes(("B", "S"), torch.int64)
        return Phase(model, (ids, ids, ids))
    if isinstance(model, ImageEncoder):
        return Phase(model, (_pixels(model),))
    n_new = "S" if name in ("prefill", "chunked_prefill") else 1
    ids = Axes(("B", n_new), torch.int64)
    if name == "prefill":
        return Phase(model, (ids, ids, None), absorbed=False)
    if name != "mtp":
        return Phase(model, (ids, ids, [_past(layer) for layer in model.layers]), absorbed=True)
    hidden = Axes(("B", 1, model.blueprint.hidden_size), model.embed_tokens.weight.dtype)
    return Phase(MTPStep(model), (ids, hidden, ids, _past(model.mtp[0].layer)), absorbed=True)


def _check(name: str, blueprint: Blueprint) -> None:
    if name == "mtp" and not blueprint.mtp_layers:
        raise InputError(Problem("phase mtp needs num_nextn_predict_layers of at least 1", given="0"))
    phases = phases_of(blueprint)
    if name not in phases:
        requirement = f"phase must be one of {', '.join(phases)}"
        raise InputError(Problem(requirement, given=name, suggestion=nearest(name, phases)))


def _pixels(encoder: ImageEncoder) -> Axes:
    source = encoder.embeddings.source
    return Axes(("B", source.patches, source.pixels), encoder.head.weight.dtype)


def _past(layer: AnyLayer) -> Axes | tuple[Axes, ...]:
    """The cache of a layer with T tokens in it, an indexer's keys beside it; its states; or nothing."""
    mixer, dtype = layer.self_attn, layer.closing_norm.weight.dtype
    if mixer is None:
        return ()
    if isinstance(mixer, Mamba2 | GatedDeltaNet):
        return tuple(Axes(("B", *shape), dtype) for shape, dtype in mixer.state_shapes)
    held = Axes(("B", "T", *mixer.cache_widths), dtype)
    return (held, Axes(("B", "T", *mixer.index_widths), dtype)) if isinstance(mixer, SparseMLA) else held


def export_phase(phase: Phase) -> ExportedProgram:
    """The phase as a program with symbolic sizes; nothing is executed."""
    device = next(phase.root.parameters()).device
    dims = {name: Dim(name, min=1 if name == "B" else 2, max=LARGEST_SIZE) for name in EXAMPLE_SIZES}
    examples = tree_map_only(Axes, lambda axes: axes.example(device), phase.inputs)
    shapes = tree_map_only(
        Axes, lambda axes: {i: dims[name] for i, name in axes.symbols.items()}, phase.inputs
    )
    if phase.absorbed is not None:
        examples, shapes = (*examples, phase.absorbed), (*shapes, None)
    with torch.no_grad():
        return export(phase.root, examples, dynamic_shapes=shapes, strict=False)
