"""Builds what is measured: a model of the asked width and depth with random weights, and a step's inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hardware_specs.records.errors import DoesNotFitError, InputError, Problem
from model_graphs.blueprint import Blueprint
from model_graphs.configs import ModelRecord
from model_graphs.placement import Place
from reference_impl.decoder import Cache, Decoder, build_model
from reference_impl.measurement.machine import available_bytes
from reference_impl.measurement.request import DTYPES, MeasurementRequest
from reference_impl.narrow import narrowed, some_layers
from reference_impl.parts.recurrent import GatedDeltaNet, Mamba2
from reference_impl.placed_model import PlacedModel, devices_at_hand

NARROW_LAYERS = 4


@dataclass(frozen=True)
class StepSubject:
    """A model with everything that one step of it needs; `placed` where a plan spreads it."""

    model: nn.Module
    step: Callable[[], object]
    n_layers: int
    placed: PlacedModel | None


def measured_blueprint(record: ModelRecord, request: MeasurementRequest) -> Blueprint:
    """The blueprint at the asked width and depth, without multi-token prediction.

    Raises:
        InputError: the model has fewer layers than asked for.
    """
    whole = record.config.blueprint
    n_whole = len(whole.layers)
    n_layers = request.n_layers or (min(NARROW_LAYERS, n_whole) if request.width == "narrow" else n_whole)
    if n_layers > n_whole:
        requirement = f"must be at most the {n_whole} layers of {record.key}"
        raise InputError(Problem(requirement, str(n_layers), path="n_layers"))
    cut = some_layers(whole, n_layers)
    return narrowed(cut) if request.width == "narrow" else cut


@torch.no_grad()
def build_subject(record: ModelRecord, request: MeasurementRequest, folder: Path) -> StepSubject:
    """The model with seeded random weights, on its device or where a plan says, and a step of it.

    `folder` takes what a plan puts on disk.

    Raises:
        InputError: the model cannot be built as asked.
        DoesNotFitError: its weights do not fit into the memory that is free now.
    """
    blueprint = measured_blueprint(record, request)
    dtype = DTYPES[request.dtype]
    _check_memory(build_model(blueprint, dtype, "meta"), record, request)
    generator = torch.Generator().manual_seed(request.seed)
    model = build_model(blueprint, dtype, "cpu")
    randomise(model, generator)
    placed = _placed(model, request, folder)
    runs = placed or model.to(request.device)
    ids, positions, past = _inputs(runs, model, request, generator)
    absorbed = request.phase != "prefill"

    def step() -> object:
        with torch.no_grad():
            return runs(ids, positions, past, absorbed)

    return StepSubject(model, step, len(blueprint.layers), placed)


def _placed(model: nn.Module, request: MeasurementRequest, folder: Path) -> PlacedModel | None:
    if request.placement is None:
        return None
    devices = devices_at_hand(request.mapped)
    if request.device == "cpu" and Place.GPU not in request.mapped:
        devices.pop(Place.GPU, None)
    return PlacedModel(model, request.placement, devices, folder)


@torch.no_grad()
def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Fill weights so that activations keep their scale, norms with ones, biases with small numbers."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("bias"):
            tensor.normal_(0.0, 0.01, generator=generator)
        elif tensor.dim() > 1:
            tensor.normal_(0.0, tensor.shape[-1] ** -0.5, generator=generator)
        else:
            tensor.fill_(1.0)


def _check_memory(model: nn.Module, record: ModelRecord, request: MeasurementRequest) -> None:
    needed = sum(tensor.nbytes for tensor in model.parameters())
    available = available_bytes(request.device)
    if available is not None and needed > available:
        what = f"{record.key} at {request.width} width in {request.dtype}"
        hint = "fewer --layers, or --width narrow"
        raise DoesNotFitError(what, needed, available, hint)


def _inputs(
    runs: Callable[..., Any], model: Decoder, request: MeasurementRequest, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[Cache] | None]:
    """Ids, positions and, where there are past tokens, a random cache of theirs a layer."""
    shape = (request.batch, request.new_tokens)
    ids = torch.randint(model.blueprint.vocab_size, shape, generator=generator).to(request.device)
    positions = torch.arange(request.past_tokens, request.past_tokens + request.new_tokens).expand(shape)
    positions = positions.to(request.device)
    if not request.past_tokens:
        return ids, positions, None
    *_, caches = runs(ids[:1, :1], positions[:1, :1], None, False)
    held = zip(model.layers, caches, strict=True)
    return ids, positions, [_random_cache(layer, cache, request, generator) for layer, cache in held]


def _random_cache(
    layer: nn.Module, like: Cache, request: MeasurementRequest, generator: torch.Generator
) -> Cache:
    """Rows of the past tokens, or states of the sequences in a recurrent layer."""
    has_states = isinstance(layer.self_attn, Mamba2 | GatedDeltaNet)
    leading = (request.batch,) if has_states else (request.batch, request.past_tokens)

    def drawn(one: Tensor) -> Tensor:
        return _random((*leading, *one.shape[len(leading) :]), one, generator)

    return tree_map(drawn, like)


def _random(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=like.dtype, generator=generator).to(like.device)
