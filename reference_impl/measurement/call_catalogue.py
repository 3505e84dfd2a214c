"""Which kernels a step calls: by which module, of which block, with how much work at these sizes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from model_graphs.graph import Role
from reference_impl.kernels.registry import KERNELS, NAMESPACE, Call, Dim, Kernel, Operand
from reference_impl.layers import Layer
from reference_impl.tracing import DTYPE_NAMES, place


@dataclass(frozen=True, slots=True)
class CataloguedCall:
    """A kernel call at concrete sizes: FLOP without the masked half of attention, bytes moved.

    `name` is `block.instance.operator`, as a simulated step names its spans.
    """

    name: str
    kind: str
    component: str
    flop: float
    traffic_bytes: float


def catalogue(model: nn.Module, run: Callable[[], object]) -> tuple[CataloguedCall, ...]:
    """The kernel calls of one run of the model, in order."""
    instances: dict[tuple[str, int], int] = {}
    calls = []
    with _open_layers(model) as layers, _Observer(layers) as observer:
        run()
    for path, kernel, call, share in observer.calls:
        (block, index), operator = place(model, path)
        numbered = (number for (name, _), number in instances.items() if name == block)
        instance = instances.setdefault((block, index), max(numbered, default=-1) + 1)
        component = model.get_submodule(path).component
        flop, traffic = _work(kernel, call, share)
        calls.append(CataloguedCall(f"{block}.{instance}.{operator}", kernel.kind, component, flop, traffic))
    return tuple(calls)


@contextmanager
def _open_layers(model: nn.Module) -> Iterator[list[str]]:
    """Paths of the layers that are running, the innermost last, while the context lasts."""
    running: list[str] = []
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, Layer):
            handles.append(module.register_forward_pre_hook(lambda *_, path=path: running.append(path)))
            handles.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


class _Observer(TorchDispatchMode):
    """Notes path, kernel, call and the share of weights touched of every kernel call."""

    def __init__(self, layers: list[str]) -> None:
        super().__init__()
        self.layers = layers
        self.calls: list[tuple[str, Kernel, Call, float]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace == NAMESPACE:
            kernel = KERNELS[func._schema.name.split("::")[1]]
            names = (argument.name for argument in func._schema.arguments)
            arguments = dict(zip(names, args, strict=False)) | (kwargs or {})
            call = _call(kernel, arguments, out)
            self.calls.append((self.layers[-1], kernel, call, _touched_share(kernel, arguments)))
        return out


def _call(kernel: Kernel, arguments: Mapping[str, Any], out: Any) -> Call:
    inputs = {
        name: _operand(value, kernel.inputs.get(name, Role.ACTIVATION))
        for name, value in arguments.items()
        if isinstance(value, torch.Tensor)
    }
    outputs = out if isinstance(out, tuple) else (out,)
    scalars = {name: value for name, value in arguments.items() if isinstance(value, int | float | str)}
    return Call(inputs, tuple(map(_operand, outputs, kernel.outputs)), scalars)


def _operand(tensor: torch.Tensor, role: Role) -> Operand:
    return Operand(tuple(tensor.shape), DTYPE_NAMES[tensor.dtype], tensor.element_size(), role)


def _touched_share(kernel: Kernel, arguments: Mapping[str, Any]) -> float:
    """Share of the weights that the call reads: of routed experts, those that some token chose."""
    if kernel.kind != "moe_experts":
        return 1.0
    held, first = arguments["w_down_EDF"].shape[0], arguments["first_expert"]
    chosen = arguments["indices_NK"].unique()
    return int(((chosen >= first) & (chosen < first + held)).sum()) / held


def _work(kernel: Kernel, call: Call, share: float) -> tuple[float, float]:
    work = kernel.work(call)
    read = work.activation_read_bytes + work.cache_read_bytes
    written = work.activation_write_bytes + work.cache_write_bytes
    return _number(work.causal_flop), _number(read + written) + share * _number(work.weight_bytes)


def _number(count: Dim) -> float:
    assert isinstance(count, int), "the sizes of a call that ran are numbers"
    return float(count)
