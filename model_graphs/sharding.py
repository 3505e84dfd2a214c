"""What one rank holds and does of an operator: tensors divided along the axis that its shard names.

| shard | weight | activations |
|---|---|---|
| column | output features | output; input too where there is no weight |
| row | input features | input; the output is a partial sum |
| head | heads | every [B, S, heads, width], cached keys and values too |
| qkv | heads of queries, keys, values | output |
| vocab | rows | the output of the head; the output of the embedding is a partial sum |
| expert | experts by `ep`, intermediate width by `moe_tp` | none |

Where there are more ranks than heads of keys and values, each rank has a copy of one.
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
    if operator.shard is Shard.QKV:
        return _divided_projection(operator, n_ranks)
    inputs = tuple(_local_part(operator, t, n_ranks, output=False) for t in operator.inputs)
    outputs = tuple(_local_part(operator, t, n_ranks, output=True) for t in operator.outputs)
    return replace(
        with_tensors(operator, inputs, outputs),
        flop=operator.flop.divided(n_ranks),
        causal_flop=operator.causal_flop.divided(n_ranks),
        weight_bytes=_local_weight_bytes(operator, inputs, n_ranks),
        cache_read_bytes=_local_cache_bytes(operator.cache_read_bytes, operator, n_ranks),
        cache_write_bytes=_local_cache_bytes(operator.cache_write_bytes, operator, n_ranks),
        attrs=_local_attrs(operator.attrs, inputs, n_ranks),
    )


def local_heads(heads: int, n_ranks: int) -> int:
    """Heads of a rank: an equal part, or one that several ranks have.

    Raises:
        InputError: the ranks neither divide the heads nor are a multiple of them.
    """
    if heads < n_ranks and n_ranks % heads == 0:
        return 1
    return int(as_expression(heads).divided(n_ranks))


def _divided_projection(operator: Operator, n_ranks: int) -> Operator:
    """Queries, keys and values of a rank's heads."""
    heads, kv_heads = int(operator.attrs["n_heads"]), int(operator.attrs["n_kv_heads"])
    mine, mine_kv = local_heads(heads, n_ranks), local_heads(kv_heads, n_ranks)
    whole, part = heads + 2 * kv_heads, mine + 2 * mine_kv

    def local(tensor: Tensor, axis: int | None) -> Tensor:
        return _scaled_axis(tensor, axis, whole, part)

    inputs = tuple(local(t, 0 if t.role is Role.WEIGHT else None) for t in operator.inputs)
    outputs = tuple(local(t, -1) for t in operator.outputs)
    return replace(
        with_tensors(operator, inputs, outputs),
        flop=operator.flop.divided(whole) * part,
        causal_flop=operator.causal_flop.divided(whole) * part,
        weight_bytes=operator.weight_bytes.divided(whole) * part,
        attrs=_local_attrs(operator.attrs, inputs, n_ranks),
    )


def _local_weight_bytes(operator: Operator, inputs: tuple[Tensor, ...], n_ranks: int) -> Expression:
    """All weights where the operator reads all; else a rank's share of what it reads.

    An embedding reads one row a token, wherever the rows lie.
    """
    if operator.kind == "embedding":
        return operator.weight_bytes
    if operator.weight_bytes == weight_bytes(operator.inputs):
        return weight_bytes(inputs)
    return operator.weight_bytes.divided(n_ranks)


def _local_cache_bytes(n_bytes: Expression, operator: Operator, n_ranks: int) -> Expression:
    """Cache traffic of a rank's heads of keys and values; a latent has no heads."""
    tensors = (*operator.inputs, *operator.outputs)
    heads = {int(t.shape[2]) for t in tensors if t.role is Role.CACHE and len(t.shape) == 4}
    if not heads:
        return n_bytes
    (whole,) = heads
    return n_bytes.divided(whole) * local_heads(whole, n_ranks)


def divided_experts(operator: Operator, ep: int, moe_tp: int) -> Operator:
    """A rank's part of the routed experts: every `ep`-th expert, 1 / `moe_tp` of its intermediate width.

    The work is that of balanced load: 1 / `ep` of the chosen rows.
    """
    inner_axis = {"w_gate_up_EGD": 1, "w_down_EDF": 2, "bias_gate_up_EG": 1}
    inputs = tuple(
        _divided(_divided(t, 0, ep), inner_axis.get(t.name), moe_tp) if t.role is Role.WEIGHT else t
        for t in operator.inputs
    )
    down = next(t for t in inputs if t.name == "w_down_EDF")
    return replace(
        operator,
        inputs=inputs,
        flop=operator.flop.divided(ep * moe_tp),
        causal_flop=operator.causal_flop.divided(ep * moe_tp),
        weight_bytes=weight_bytes(inputs),
        attrs={**operator.attrs, "n_local_experts": int(down.shape[0]), "inter": int(down.shape[2])},
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


def weight_bytes(tensors: tuple[Tensor, ...]) -> Expression:
    """Bytes of the weights among the tensors."""
    return total(tensor_bytes(t) for t in tensors if t.role is Role.WEIGHT)


def with_first_axis(tensor: Tensor, size: Operand) -> Tensor:
    """The tensor with another number of rows."""
    return replace(tensor, shape=(as_expression(size), *tensor.shape[1:]))


def _scaled(tensor: Tensor, factor: int) -> Tensor:
    return tensor if tensor.role is Role.WEIGHT else with_first_axis(tensor, tensor.shape[0] * factor)


def _local_part(operator: Operator, tensor: Tensor, n_ranks: int, *, output: bool) -> Tensor:
    axis = _axis(operator, tensor, output=output)
    if operator.shard is Shard.HEAD and axis == 2:
        whole = int(tensor.shape[2])
    elif operator.shard is Shard.COLUMN and "n_heads" in operator.attrs:
        whole = int(operator.attrs["n_heads"])
    else:
        return _divided(tensor, axis, n_ranks)
    return _scaled_axis(tensor, axis, whole, local_heads(whole, n_ranks))


def _axis(operator: Operator, tensor: Tensor, *, output: bool) -> int | None:
    """The axis of the operand that ranks divide among them; None where every rank has all of it."""
    has_matrix = any(t.role is Role.WEIGHT and len(t.shape) > 1 for t in operator.inputs)
    if tensor.role is Role.WEIGHT:
        return _weight_axis(operator, tensor)
    match operator.shard:
        case Shard.COLUMN:
            return -1 if output or not has_matrix else None
        case Shard.ROW:
            return None if output else -1
        case Shard.HEAD:
            return 2 if len(tensor.shape) == 4 else None
        case Shard.VOCAB:
            return -1 if output and operator.kind == "linear" else None
    return None


def _weight_axis(operator: Operator, weight: Tensor) -> int | None:
    """Rows, but for input features; what is added to a partial sum or shared by all heads stays whole."""
    if operator.shard is Shard.ROW:
        return 1 if len(weight.shape) > 1 else None
    return None if operator.shard is Shard.HEAD and operator.kind == "rmsnorm" else 0


def _divided(tensor: Tensor, axis: int | None, n_ranks: int) -> Tensor:
    return _scaled_axis(tensor, axis, n_ranks, 1)


def _scaled_axis(tensor: Tensor, axis: int | None, whole: int, part: int) -> Tensor:
    """The tensor with `part` in `whole` of an axis."""
    if axis is None:
        return tensor
    shape = list(tensor.shape)
    shape[axis] = shape[axis].divided(whole) * part
    return replace(tensor, shape=tuple(shape))


def _local_attrs(attrs: Attributes, inputs: tuple[Tensor, ...], n_ranks: int) -> Attributes:
    """Counts in the attributes that follow from the divided operands."""
    changed = dict(attrs)
    if {"n", "k"} <= attrs.keys():
        weight = next(t for t in inputs if t.role is Role.WEIGHT)
        changed |= {"n": int(weight.shape[0]), "k": int(weight.shape[1])}
    for name in ("n_heads", "n_kv_heads"):
        if name in attrs:
            changed[name] = local_heads(int(attrs[name]), n_ranks)
    return changed
