"""A counter beside emission: the kernel calls of a forward pass at concrete shapes, with their work."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model_graphs.graph import Role
from reference_impl.kernels import KERNELS, Call, Operand, Work


class KernelCounter(TorchDispatchMode):
    """Records (kind, work) of every kernel that is called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Work]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace == "silicast":
            kernel = KERNELS[func._schema.name.split("::")[1]]
            named = dict(zip((a.name for a in func._schema.arguments), args, strict=False))
            self.calls.append((kernel.kind, kernel.work(_call(kernel, named, out))))
        return out

    def total(self, field: str) -> int:
        return sum(getattr(work, field) for _, work in self.calls)


def _call(kernel: Any, named: dict[str, Any], out: Any) -> Call:
    inputs = {
        name: _operand(value, kernel.inputs.get(name, Role.ACTIVATION))
        for name, value in named.items()
        if isinstance(value, torch.Tensor)
    }
    outs = out if isinstance(out, tuple) else (out,)
    scalars = {name: value for name, value in named.items() if isinstance(value, int | float | str)}
    return Call(inputs, tuple(_operand(o, r) for o, r in zip(outs, kernel.outputs, strict=True)), scalars)


def _operand(tensor: torch.Tensor, role: Role) -> Operand:
    return Operand(tuple(tensor.shape), str(tensor.dtype), tensor.element_size(), role)
