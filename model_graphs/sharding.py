"""What one rank holds and does of an operator: tensors divided along the axis that its shard names.

| shard | weight | activations |
|---|---|---|
| column | output features | output; input too where there is no weight |
| row | input features | input; the output is a partial sum |
| head | heads | every [B, S, heads, width] |
| vocab | rows | the output of the head; the output of the embedding is a partial sum |
| expert | experts by `ep`, intermediate width by `moe_tp` | none |
"""

from collections.abc import Mapping
from dataclasses import replace

from model_graphs.dtypes import tensor_bytes
from model_graphs.expressions import Expression, Operand, as_expression, total
from model_graphs.graph import Operator, Role, Shard, Tensor

Attributes = Mapping[str, int | float | str | bool]


def divided_operator(operator: Operator, n_ranks: int) -> Operator:
    """A tensor-parallel rank's part of an operator; the operator itself where it is replicated.

    Raises:
        InputError: a dimension does not divide into equal parts.
    """
    if n_ranks == 1 or operator.shard in (Shard.NONE, Shard.EXPERT):
        return operator
    inputs = tuple(_divided(t, _axis(operator, t, output=False), n_ranks) for t in operator.inputs)
    outputs = tuple(_divided(t, _axis(operator, t, output=True), n_ranks) for t in operator.outputs)
    gathers = operator.kind == "embedding"  # reads one row a token, wherever the rows lie
    return replace(
        with_tensors(operator, inputs, outputs),
        flop=operator.flop.divided(n_ranks),
        causal_flop=operator.causal_flop.divided(n_ranks),
        weight_bytes=operator.weight_bytes if gathers else operator.weight_bytes.divided(n_ranks),
        attrs=_local_attrs(operator.attrs, inputs, n_ranks),
    )


def divided_experts(operator: Operator, ep: int, moe_tp: int) -> Operator:
    """A rank's part of the routed experts: every `ep`-th expert, 1 / `moe_tp` of its intermediate width.

    The work is that of balanced load: 1 / `ep` of the chosen rows.
    """
    gate_up, down = (t for t in operator.inputs if t.role is Role.WEIGHT)
    local = {
        gate_up: _divided(_divided(gate_up, 0, ep), 1, moe_tp),
        down: _divided(_divided(down, 0, ep), 2, moe_tp),
    }
    n_held = int(local[down].shape[0])
    return replace(
        operator,
        inputs=tuple(local.get(t, t) for t in operator.inputs),
        flop=operator.flop.divided(ep * moe_tp),
        causal_flop=operator.causal_flop.divided(ep * moe_tp),
        weight_bytes=operator.weight_bytes.divided(ep * moe_tp),
        attrs={**operator.attrs, "n_local_experts": n_held, "inter": int(local[down].shape[2])},
    )


def with_more_tokens(operator: Operator, factor: int) -> Operator:
    """The operator on `factor` times as many tokens; its weights stay."""
    return replace(
        operator,
        inputs=tuple(_scaled(t, factor) for t in operator.inputs),
        outputs=tuple(_scaled(t, factor) for t in operator.outputs),
        flop=operator.flop * factor,
        causal_flop=operator.causal_flop * factor,
        activation_read_bytes=operator.activation_read_bytes * factor,
        activation_write_bytes=operator.activation_write_bytes * factor,
    )


def with_tensors(operator: Operator, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Operator:
    """The operator on other operands, with its activation traffic changed by what they differ in."""
    return replace(
        operator,
        inputs=inputs,
        outputs=outputs,
        activation_read_bytes=operator.activation_read_bytes + _growth(operator.inputs, inputs),
        activation_write_bytes=operator.activation_write_bytes + _growth(operator.outputs, outputs),
    )


def _growth(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> Expression:
    return activation_bytes(after) - activation_bytes(before)


def activation_bytes(tensors: tuple[Tensor, ...]) -> Expression:
    """Bytes of the activations and indices among the tensors."""
    return total(tensor_bytes(t) for t in tensors if t.role in (Role.ACTIVATION, Role.INDEX))


def with_first_axis(tensor: Tensor, size: Operand) -> Tensor:
    """The tensor with another number of rows."""
    return replace(tensor, shape=(as_expression(size), *tensor.shape[1:]))


def _scaled(tensor: Tensor, factor: int) -> Tensor:
    return tensor if tensor.role is Role.WEIGHT else with_first_axis(tensor, tensor.shape[0] * factor)


def _axis(operator: Operator, tensor: Tensor, *, output: bool) -> int | None:
    """The axis of the operand that ranks divide among them; None where every rank has all of it."""
    has_weight = any(t.role is Role.WEIGHT for t in operator.inputs)
    if tensor.role is Role.WEIGHT:
        return 1 if operator.shard is Shard.ROW else 0
    match operator.shard:
        case Shard.COLUMN:
            return -1 if output or not has_weight else None
        case Shard.ROW:
            return None if output else -1
        case Shard.HEAD:
            return 2 if len(tensor.shape) == 4 else None
        case Shard.VOCAB:
            return -1 if output and operator.kind == "linear" else None
    return None


def _divided(tensor: Tensor, axis: int | None, n_ranks: int) -> Tensor:
    if axis is None:
        return tensor
    shape = list(tensor.shape)
    shape[axis] = shape[axis].divided(n_ranks)
    return replace(tensor, shape=tuple(shape))


def _local_attrs(attrs: Attributes, inputs: tuple[Tensor, ...], n_ranks: int) -> Attributes:
    """Counts in the attributes that follow from the divided operands."""
    changed = dict(attrs)
    if {"n", "k"} <= attrs.keys():
        weight = next(t for t in inputs if t.role is Role.WEIGHT)
        changed |= {"n": int(weight.shape[0]), "k": int(weight.shape[1])}
    if "n_heads" in attrs:
        changed["n_heads"] = int(attrs["n_heads"]) // n_ranks
    return changed
