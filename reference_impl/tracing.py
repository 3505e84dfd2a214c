"""From an exported program to its kernel calls, with symbolic shapes and what they depend on.

Everything in the program that is not a kernel must be a view or belong to the rotary tables, which are made
once a step; any other operator would be work that the graph does not see, and is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from model_graphs.graph import Role
from reference_impl.kernels.registry import KERNELS, NAMESPACE, Call, Kernel, Operand
from reference_impl.symbols import Names, dimension

DTYPE_NAMES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.float8_e4m3fn: "e4m3",  # codes: `Kernel.view` names what they are part of
    torch.int8: "codes",
    torch.uint8: "codes",
}

#: operators on tensors that move no bytes, because kernels return contiguous tensors
VIEWS = {
    "flatten",
    "getitem",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "unflatten",
    "unsqueeze",
    "view",
}
STEP_TABLES = "rotary"


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel: which module made it, with what, after which calls of the trace."""

    kernel: Kernel
    path: str
    call: Call
    producers: tuple[int, ...]


def kernel_calls(program: ExportedProgram, names: Names) -> list[KernelCall]:
    """Every kernel call of the program in order."""
    weights = {*program.graph_signature.inputs_to_parameters, *program.graph_signature.inputs_to_buffers}
    produced: dict[fx.Node, frozenset[int]] = {}
    calls: list[KernelCall] = []
    for node in program.graph.nodes:
        sources = frozenset().union(*(produced[parent] for parent in node.all_input_nodes))
        produced[node] = sources
        if node.op != "call_function":
            continue
        if getattr(node.target, "namespace", "") == NAMESPACE:
            produced[node] = frozenset((len(calls),))
            calls.append(_kernel_call(node, names, weights, tuple(sorted(sources))))
        else:
            _refuse_hidden_work(node)
    return calls


def _kernel_call(node: fx.Node, names: Names, weights: set[str], producers: tuple[int, ...]) -> KernelCall:
    schema = node.target._schema
    kernel = KERNELS[schema.name.split("::")[1]]
    arguments = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False))
    arguments |= node.kwargs
    nodes = dict(_tensors(arguments))
    roles = {name: kernel.inputs.get(name.split(".")[0], Role.ACTIVATION) for name in nodes}
    for name, role in roles.items():
        assert (nodes[name].name in weights) == (role is Role.WEIGHT), f"{kernel.kind}.{name} is a {role}"
    inputs = {name: operand(nodes[name].meta["val"], role, names) for name, role in roles.items()}
    values = node.meta["val"] if isinstance(node.meta["val"], list | tuple) else (node.meta["val"],)
    outputs = tuple(operand(v, r, names) for v, r in zip(values, kernel.outputs, strict=True))
    scalars = {n: a for n, a in arguments.items() if isinstance(a, int | float | str)}
    return KernelCall(kernel, module_path(node), kernel.view(Call(inputs, outputs, scalars)), producers)


def _tensors(arguments: Mapping[str, Any]) -> Iterator[tuple[str, fx.Node]]:
    """The tensors among the arguments; those of a list take its name and their number."""
    for name, argument in arguments.items():
        if isinstance(argument, fx.Node):
            yield name, argument
        elif isinstance(argument, list | tuple):
            yield from ((f"{name}.{i}", item) for i, item in enumerate(argument) if isinstance(item, fx.Node))


def operand(value: torch.Tensor, role: Role, names: Names) -> Operand:
    """The tensor as its cost sees it."""
    shape = tuple(dimension(size, names) for size in value.shape)
    return Operand(shape, DTYPE_NAMES[value.dtype], value.element_size(), role)


def module_path(node: fx.Node) -> str:
    """Dotted path of the innermost module that made the call."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def place(root: nn.Module, path: str) -> tuple[tuple[str, int], str]:
    """The block of the module at this path, and the module's name inside that block."""
    parts = path.split(".")
    for depth in range(1, len(parts) + 1):
        block = getattr(root.get_submodule(".".join(parts[:depth])), "block", None)
        if block is not None:
            return block, ".".join(parts[depth:]) or parts[-1]
    raise AssertionError(f"{path} belongs to no block")


def _refuse_hidden_work(node: fx.Node) -> None:
    name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
    of_tensors = any(isinstance(parent.meta.get("val"), torch.Tensor) for parent in node.all_input_nodes)
    if of_tensors and name not in VIEWS | {"sym_size"} and module_path(node) != STEP_TABLES:
        raise ValueError(f"{module_path(node)} calls {node.target}, which is neither a kernel nor a view")


def symbol_names(program: ExportedProgram, axes: Iterable[Mapping[int, str]]) -> dict[Any, str]:
    """The graph's name of every symbol: inputs' axes as given, and `R` for sizes known only at run time."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = {}
    for user_input, named in zip(program.graph_signature.user_inputs, axes, strict=False):
        for axis, name in named.items():
            names[values[user_input].shape[axis].node.expr] = name
    received = {size for node in program.graph.nodes for size in node.meta.get("unbacked_bindings", {})}
    return names | dict.fromkeys(received, "R")
