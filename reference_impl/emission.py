"""Emission: the symbolic operator graph of a model's phase, traced from its reference implementation.

The model is built at full width on `meta` with one layer of each kind, exported with symbolic batch, new and
past tokens, and read back as kernel calls; the block of a layer then repeats as often as the config says.
Tests prove that layers do repeat. Under a layout the same model is exported as one rank holds it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, export

from model_graphs.configs import DeepSeekV3Config
from model_graphs.expressions import as_expression
from model_graphs.graph import Block, Collective, Operator, OperatorGraph, Stream, Tensor
from model_graphs.layout import Layout
from reference_impl.deepseek_v3 import DeepSeekV3, MTPStep, build_model
from reference_impl.deepseek_v3.parallel import parallelize
from reference_impl.kernels.registry import Call, Kernel, Operand
from reference_impl.tracing import KernelCall, kernel_calls, symbol_names

SYMBOLS = ("B", "S", "T", "R")
PHASES = ("prefill", "chunked_prefill", "decode", "mtp")

# distinct and above one: equal sizes would be taken for one symbol, zero and one for constants
EXAMPLE = {"B": 6, "S": 10, "T": 777}


@dataclass(frozen=True)
class Argument:
    """An example input of an export: a tensor on `meta`, with names for its symbolic axes."""

    tensor: torch.Tensor
    axes: Mapping[int, str]


def emit(
    config: DeepSeekV3Config, phase: str, layout: Layout | None = None, *, model: str = "deepseek-v3"
) -> OperatorGraph:
    """The graph of a phase of `PHASES`, on one rank of the layout; `mtp` is one step of the first module."""
    blocks = emit_blocks(one_layer_of_each_kind(config), phase, layout)
    repeats = {
        "dense_layer": config.first_k_dense_replace,
        "moe_layer": config.num_hidden_layers - config.first_k_dense_replace,
    }
    repeated = tuple(Block(b.name, repeats.get(b.name, 1), b.operators) for b in blocks)
    return OperatorGraph(model, phase, _symbols(repeated), repeated)


def _symbols(blocks: Iterable[Block]) -> tuple[str, ...]:
    """Symbols that occur, in the order of `SYMBOLS`."""
    tensors = [t for block in blocks for op in block.operators for t in (*op.inputs, *op.outputs)]
    used = frozenset().union(*(size.symbols for tensor in tensors for size in tensor.shape))
    return tuple(name for name in SYMBOLS if name in used)


def one_layer_of_each_kind(config: DeepSeekV3Config) -> DeepSeekV3Config:
    """The config with at most one dense and one mixture-of-experts layer, at full width."""
    dense = min(config.first_k_dense_replace, 1)
    moe = min(config.num_hidden_layers - config.first_k_dense_replace, 1)
    return config.model_copy(update={"num_hidden_layers": dense + moe, "first_k_dense_replace": dense})


def emit_blocks(config: DeepSeekV3Config, phase: str, layout: Layout | None = None) -> list[Block]:
    """One block for every layer of the config, in order."""
    model = build_model(config, torch.bfloat16, "meta")
    if layout is not None:
        parallelize(model, layout)
    root, arguments, absorbed = _phase(model, config, phase)
    sizes = {name: Dim(name, min=1 if name == "B" else 2, max=2**20) for name in EXAMPLE}
    axes = [argument.axes if argument else {} for argument in _flat(arguments)]
    shapes = _mapped(arguments, lambda a: {axis: sizes[name] for axis, name in a.axes.items()})
    tensors = _mapped(arguments, lambda a: a.tensor)
    with torch.no_grad():
        program = export(root, (*tensors, absorbed), dynamic_shapes=(*shapes, None), strict=False)
    calls = kernel_calls(program, symbol_names(program, iter(axes)))
    return blocks_of(calls, root)


def _phase(model: DeepSeekV3, config: DeepSeekV3Config, phase: str) -> tuple[nn.Module, list[Any], bool]:
    """What is exported: module, example arguments, and whether attention is absorbed."""
    one_token = phase in ("decode", "mtp")
    n_new = 1 if one_token else EXAMPLE["S"]
    token_axes = {0: "B"} if one_token else {0: "B", 1: "S"}
    ids = Argument(_meta(EXAMPLE["B"], n_new, dtype=torch.int64), token_axes)
    positions = Argument(_meta(EXAMPLE["B"], n_new, dtype=torch.int64), token_axes)
    past = Argument(_meta(EXAMPLE["B"], EXAMPLE["T"], config.latent_dim), {0: "B", 1: "T"})
    if phase == "mtp":
        hidden = Argument(_meta(EXAMPLE["B"], 1, config.hidden_size), {0: "B"})
        return MTPStep(model), [ids, hidden, positions, past], True
    if phase == "prefill":
        return model, [ids, positions, None], False
    return model, [ids, positions, [past] * config.num_hidden_layers], True


def _meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _flat(arguments: Iterable[Any]) -> list[Argument | None]:
    return [leaf for a in arguments for leaf in (a if isinstance(a, list) else [a])]


def _mapped(arguments: Iterable[Any], change: Any) -> list[Any]:
    """The change applied to every argument, lists kept as lists and absent ones absent."""
    return [
        [change(leaf) for leaf in a] if isinstance(a, list) else change(a) if a is not None else None
        for a in arguments
    ]


def blocks_of(calls: Iterable[KernelCall], root: nn.Module) -> list[Block]:
    """Calls gathered by the block that the outermost module above them names."""
    members: dict[tuple[str, int], list[tuple[int, KernelCall, str]]] = {}
    for position, call in enumerate(calls):
        key, name = _place(root, call.path)
        members.setdefault(key, []).append((position, call, name))
    return [Block(key[0], 1, tuple(_operators(group, root))) for key, group in members.items()]


def _place(root: nn.Module, path: str) -> tuple[tuple[str, int], str]:
    """The block of a module, and its name inside that block."""
    parts = path.split(".")
    for depth in range(1, len(parts) + 1):
        block = getattr(root.get_submodule(".".join(parts[:depth])), "block", None)
        if block is not None:
            return block, ".".join(parts[depth:]) or parts[-1]
    raise AssertionError(f"{path} belongs to no block")


def _operators(group: list[tuple[int, KernelCall, str]], root: nn.Module) -> Iterable[Operator]:
    local = {position: i for i, (position, _, _) in enumerate(group)}
    for _, call, name in group:
        deps = sorted({local.get(producer, -1) for producer in call.producers}) or [-1]
        yield _operator(call, name, tuple(deps), root.get_submodule(call.path))


def _operator(traced: KernelCall, name: str, deps: tuple[int, ...], layer: nn.Module) -> Operator:
    kernel, call = traced.kernel, traced.call
    work = kernel.work(call)
    return Operator(
        name=name,
        kind=kernel.kind,
        inputs=tuple(_tensor(operand, argument) for argument, operand in call.inputs.items()),
        outputs=tuple(_tensor(operand) for operand in call.outputs),
        deps=deps,
        **{field: as_expression(value) for field, value in vars(work).items()},
        attrs=kernel.attrs(call),
        shard=layer.shard,
        stream=Stream.COMPUTE if kernel.message_bytes is None else Stream.COMMUNICATION,
        collective=_collective(kernel, call),
        component=layer.component,
    )


def _tensor(operand: Operand, name: str = "") -> Tensor:
    return Tensor(tuple(as_expression(size) for size in operand.shape), operand.dtype, operand.role, name)


def _collective(kernel: Kernel, call: Call) -> Collective | None:
    if kernel.message_bytes is None:
        return None
    scalars = call.scalars
    message = as_expression(kernel.message_bytes(call))
    return Collective(kernel.kind, str(scalars["group"]), int(scalars["n_ranks"]), message)
