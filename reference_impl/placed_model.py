"""Runs a reference model under a placement plan on whatever devices there are.

Modules move to the device of their place, and activations move where one device feeds another. What lies on
disk is kept in one safetensors file a module, read for each call and dropped after it; the CPU computes it.
A machine without a GPU runs the same plan with `gpu` mapped to the CPU: nothing moves then, and what would
cross is counted all the same, by place and not by device. Step inputs and rotary tables are not counted, and
a layer's cache stays where the layer lies.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from hardware_specs.records.errors import InputError, Problem
from model_graphs.placement import Place, Placement, PlacementPlan, resolve_placement
from model_graphs.placing import device_of
from reference_impl.parts.feed_forward import Experts

Devices = Mapping[Place, torch.device]

#: a decoder layer's first arguments are its predecessor's results: the normalised stream and the residual
STREAMS = 2


def devices_at_hand(mapped: Mapping[Place, Place] | None = None) -> dict[Place, torch.device]:
    """The device of each place on this machine; `mapped` sends one place to the device of another."""
    found = {Place.CPU: torch.device("cpu"), Place.DISK: torch.device("cpu")}
    if torch.cuda.is_available():
        found[Place.GPU] = torch.device("cuda", torch.cuda.current_device())
    return found | {place: found[to] for place, to in (mapped or {}).items() if to in found}


class PlacedModel:
    """A `model` whose parts lie where a plan says, called as the model itself.

    `crossed_bytes` counts what has crossed so far by (from, to), `read_bytes` what was read from disk. The
    model itself is changed: its parameters move, and hooks move activations. `folder` takes the files of what
    lies on disk.

    Raises:
        InputError: the plan does not fit the model, or needs a device or a folder that is not there.
    """

    def __init__(
        self, model: nn.Module, plan: PlacementPlan, devices: Devices, folder: Path | None = None
    ) -> None:
        self.crossed_bytes: dict[tuple[str, str], int] = {}
        self.read_bytes = 0
        self.model, self._devices, self._folder = model, devices, folder
        experts = [_experts_of(layer) for layer in model.layers]
        placement = resolve_placement(plan, [found is not None for found in experts])
        self._check(placement)
        self._place_outer(placement)
        self._place_layers(placement, experts)

    def __call__(self, *arguments: Any) -> Any:
        """What the model returns."""
        return self.model(*arguments)

    def _check(self, placement: Placement) -> None:
        used = {placement.embedding, placement.head, *placement.layers, *filter(None, placement.experts)}
        problems = [
            Problem("must be a device of this machine; map it to another, such as gpu=cpu", place, path="map")
            for place in sorted(used - set(self._devices))
        ]
        if Place.DISK in used and self._folder is None:
            problems.append(Problem("a folder must be given for what lies on disk", path="folder"))
        if problems:
            raise InputError(*problems)

    def _place_outer(self, placement: Placement) -> None:
        model, last = self.model, placement.layers[-1]
        for name in ("embed_tokens", "opening_norm"):
            self._settle(getattr(model, name), placement.embedding, name)
        model.embed_tokens.register_forward_pre_hook(
            _Fetch(self, placement.embedding, placement.embedding, 0)
        )
        self._settle(model.lm_head, placement.head, "lm_head")
        model.lm_head.register_forward_pre_hook(_Fetch(self, last, placement.head, 1))

    def _place_layers(self, placement: Placement, experts: list[nn.Module | None]) -> None:
        before = placement.embedding
        for i, layer in enumerate(self.model.layers):
            home, away = placement.layers[i], placement.experts[i]
            self._settle(layer, home, f"layer_{i}", apart=experts[i] if away is not home else None)
            layer.register_forward_pre_hook(_Fetch(self, before, home, STREAMS))
            routed = experts[i]
            if routed is not None and away is not None and away is not home:
                self._settle(routed, away, f"layer_{i}_experts")
                routed.register_forward_pre_hook(_Fetch(self, home, away, None))
                routed.register_forward_hook(_Return(self, away, home))
            before = home

    def _settle(self, module: nn.Module, place: Place, name: str, apart: nn.Module | None = None) -> None:
        """Move the module's own tensors, without those of the part that lies apart, to their place."""
        for name_in_module, tensor in _own_tensors(module, apart):
            *path, leaf = name_in_module.split(".")
            moved = tensor.data.to(self._devices[place])
            held = nn.Parameter(moved, False) if isinstance(tensor, nn.Parameter) else nn.Buffer(moved)
            setattr(module.get_submodule(".".join(path)), leaf, held)
        if place is Place.DISK:
            assert self._folder is not None, "a plan with a disk has a folder"
            stored = _Stored(self, dict(_own_tensors(module, apart)), self._folder / f"{name}.safetensors")
            module.register_forward_pre_hook(stored.read)
            module.register_forward_hook(stored.drop)

    def moved(self, tensors: Any, start: Place, end: Place, *, counted: bool) -> Any:
        """The tensors in any nesting, on the device of another place."""
        crosses = counted and device_of(start) is not device_of(end)

        def move(tensor: Tensor) -> Tensor:
            if crosses:
                way = str(device_of(start)), str(device_of(end))
                self.crossed_bytes[way] = self.crossed_bytes.get(way, 0) + tensor.nbytes
            return tensor.to(self._devices[end])

        return tree_map_only(Tensor, move, tensors)


class _Fetch:
    """A hook before a module: its arguments on its device. The first `n_counted` (None: all) may cross."""

    def __init__(self, model: PlacedModel, start: Place, end: Place, n_counted: int | None) -> None:
        self.model, self.start, self.end, self.n_counted = model, start, end, n_counted

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        n_counted = len(arguments) if self.n_counted is None else self.n_counted
        move = self.model.moved
        crossing = move(arguments[:n_counted], self.start, self.end, counted=True)
        given = move(arguments[n_counted:], self.start, self.end, counted=False)
        return (*crossing, *given)


class _Return:
    """A hook behind a module: its result back on the device of what called it."""

    def __init__(self, model: PlacedModel, start: Place, end: Place) -> None:
        self.model, self.start, self.end = model, start, end

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], result: Any) -> Any:
        return self.model.moved(result, self.start, self.end, counted=True)


class _Stored:
    """Tensors that lie in a file and are in memory during a call only."""

    def __init__(self, model: PlacedModel, tensors: Mapping[str, Tensor], file: Path) -> None:
        self.model, self.tensors, self.file = model, tensors, file
        save_file({name: tensor.data.contiguous() for name, tensor in tensors.items()}, file)
        self.drop()

    def read(self, *_: object) -> None:
        """Read the file."""
        for name, data in load_file(self.file).items():
            self.tensors[name].data = data.clone()  # aligned as PyTorch aligns, which decides how sums round
            self.model.read_bytes += data.nbytes

    def drop(self, *_: object) -> None:
        """Forget what the file holds."""
        for tensor in self.tensors.values():
            tensor.data = tensor.data.new_empty(0)


def _experts_of(layer: nn.Module) -> nn.Module | None:
    return next((module for module in layer.modules() if isinstance(module, Experts)), None)


def _own_tensors(module: nn.Module, apart: nn.Module | None) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, those of the part that lies apart left out."""
    kept_apart = set() if apart is None else {id(tensor) for _, tensor in _own_tensors(apart, None)}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if id(tensor) not in kept_apart:
            yield name, tensor
