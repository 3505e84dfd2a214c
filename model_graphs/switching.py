"""Changing a plan at run time: what is moved when weights that lie in one form are made into another.

Two ways to hold two plans: both forms side by side, which costs memory and no time, or one form that is
turned into the other on the device, which reads every changed weight and writes it anew. Making codes of few
bits into others loses what the first rounding lost; more bits do not come back from fewer.
"""

from collections.abc import Iterator
from dataclasses import replace

from model_graphs.dtypes import tensor_bytes
from model_graphs.expressions import total
from model_graphs.graph import Block, Operator, OperatorGraph, Role, Tensor
from model_graphs.totals import weight_bytes_per_rank
from model_graphs.transform_pass import apply_plan
from model_graphs.transforms import Plan


def switch_graph(graph: OperatorGraph, before: Plan, after: Plan) -> OperatorGraph:
    """One `quantize` operator for every product of a plain graph whose storage the switch changes."""
    pairs = zip(_stored(graph, before).blocks, _stored(graph, after).blocks, strict=True)
    blocks = tuple(Block(old.name, old.repeat, tuple(_changes(old, new))) for old, new in pairs)
    name = f"switch from {before.name} to {after.name}"
    return replace(graph, phase="switch", symbols=(), blocks=blocks, notes=(name,))


def both_forms_bytes(graph: OperatorGraph, before: Plan, after: Plan) -> int:
    """Bytes of the weights where the changed ones are held in both forms and the others once."""
    written = sum(
        int(op.activation_write_bytes) for _, _, op in switch_graph(graph, before, after).instances()
    )
    return weight_bytes_per_rank(_stored(graph, before)) + written


def _stored(graph: OperatorGraph, plan: Plan) -> OperatorGraph:
    """The graph with its weights stored under a plan; no operator is added, because nothing is quantised."""
    return apply_plan(graph, plan, {"bf16"})


def _changes(before: Block, after: Block) -> Iterator[Operator]:
    for old, new in zip(before.operators, after.operators, strict=True):
        changed = [(a, b) for a, b in zip(_weights(old), _weights(new), strict=True) if a != b]
        if changed:
            yield Operator(
                name=f"{old.name}.switch",
                kind="quantize",
                inputs=tuple(a for a, _ in changed),
                outputs=tuple(b for _, b in changed),
                deps=(-1,),
                weight_bytes=total(tensor_bytes(a) for a, _ in changed),
                activation_write_bytes=total(tensor_bytes(b) for _, b in changed),
                place=old.place,
                component=old.component,
            )


def _weights(operator: Operator) -> list[Tensor]:
    return [tensor for tensor in operator.inputs if tensor.role is Role.WEIGHT]
