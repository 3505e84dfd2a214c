"""Emission: the symbolic operator graph of a model's phase, traced from its reference implementation.

The model is built at full width on `meta` with one layer of each kind, exported with symbolic sizes, and
read back as kernel calls; the block of a layer then repeats as often as the config says. Tests prove that
layers do repeat. Under a layout the same model is exported as one rank holds it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import nn

from model_graphs.blueprint import Blueprint, EncoderBlueprint
from model_graphs.expressions import as_expression
from model_graphs.graph import Block, Collective, Operator, OperatorGraph, Stream, Tensor
from model_graphs.layout import Layout
from model_graphs.transforms import Plan
from reference_impl.decoder import Decoder, build_model
from reference_impl.encoder import Encoder, build_encoder
from reference_impl.kernels.registry import Call, Kernel, Operand
from reference_impl.parallel import parallelize
from reference_impl.phases import export_phase, phase_of
from reference_impl.tracing import KernelCall, kernel_calls, place, symbol_names
from reference_impl.transforms import transform

SYMBOLS = ("B", "S", "T", "R")


def emit(
    blueprint: Blueprint,
    phase: str,
    layout: Layout | None = None,
    *,
    plan: Plan | None = None,
    model: str = "deepseek-v3",
) -> OperatorGraph:
    """The graph of a phase, on one rank of the layout, its products transformed as the plan says.

    Raises:
        InputError: the model has no such phase.
    """
    repeats = {layer.name: count for layer, count in blueprint.kinds.items()}
    blocks = emit_layers(one_layer_of_each_kind(blueprint), phase, layout, plan)
    repeated = tuple(replace(block, repeat=repeats.get(block.name, 1)) for block in blocks)
    return OperatorGraph(model, phase, _symbols(repeated), repeated)


def one_layer_of_each_kind(blueprint: Blueprint) -> Blueprint:
    """The blueprint with one layer of each kind, at full width."""
    return replace(blueprint, layers=tuple(blueprint.kinds))


def emit_layers(
    blueprint: Blueprint, phase: str, layout: Layout | None = None, plan: Plan | None = None
) -> list[Block]:
    """A block for the embedding, for every single layer and for the head, in order."""
    in_fp32 = plan is not None and plan.autocast
    model = _on_meta(blueprint, torch.float32 if in_fp32 else torch.bfloat16)
    if layout is not None:
        parallelize(model, layout)
    if plan is not None and (phase != "mtp" or plan.mtp):
        transform(model, plan)
    run = phase_of(model, phase)
    program = export_phase(run)
    calls = kernel_calls(program, symbol_names(program, run.input_symbols()))
    return _blocks(calls, run.root)


def _on_meta(blueprint: Blueprint, dtype: torch.dtype) -> Decoder | Encoder:
    """The model without weights."""
    if isinstance(blueprint, EncoderBlueprint):
        return build_encoder(blueprint, dtype, "meta")
    return build_model(blueprint, dtype, "meta")


def _symbols(blocks: Iterable[Block]) -> tuple[str, ...]:
    """Symbols that occur, in the order of `SYMBOLS`."""
    tensors = [t for block in blocks for op in block.operators for t in (*op.inputs, *op.outputs)]
    used = frozenset().union(*(size.symbols for tensor in tensors for size in tensor.shape))
    return tuple(name for name in SYMBOLS if name in used)


def _blocks(calls: Iterable[KernelCall], root: nn.Module) -> list[Block]:
    """Calls gathered by the block that the outermost module above them names."""
    members: dict[tuple[str, int], dict[int, tuple[KernelCall, str]]] = {}
    for position, call in enumerate(calls):
        block, name = place(root, call.path)
        members.setdefault(block, {})[position] = (call, name)
    return [Block(name, 1, tuple(_operators(group, root))) for (name, _), group in members.items()]


def _operators(group: Mapping[int, tuple[KernelCall, str]], root: nn.Module) -> Iterator[Operator]:
    """Operators of a block; what comes from outside it is the block's input, -1."""
    local = {position: i for i, position in enumerate(group)}
    for call, name in group.values():
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
        flop=as_expression(work.flop),
        causal_flop=as_expression(work.causal_flop),
        weight_bytes=as_expression(work.weight_bytes),
        activation_read_bytes=as_expression(work.activation_read_bytes),
        activation_write_bytes=as_expression(work.activation_write_bytes),
        cache_read_bytes=as_expression(work.cache_read_bytes),
        cache_write_bytes=as_expression(work.cache_write_bytes),
        attrs={**kernel.attrs(call), **layer.attrs},
        shard=layer.shard,
        stream=Stream.COMPUTE if kernel.message_bytes is None else Stream.COMMUNICATION,
        collective=_collective(kernel, call),
        compute_dtype=kernel.compute(call),
        component=layer.component,
    )


def _tensor(operand: Operand, name: str = "") -> Tensor:
    return Tensor(tuple(as_expression(size) for size in operand.shape), operand.dtype, operand.role, name)


def _collective(kernel: Kernel, call: Call) -> Collective | None:
    if kernel.message_bytes is None:
        return None
    group, n_ranks = str(call.scalars["group"]), int(call.scalars["n_ranks"])
    return Collective(kernel.kind, group, n_ranks, as_expression(kernel.message_bytes(call)))
