"""Operators by which ranks meet, as the layout pass inserts them.

`message_bytes` is what one rank contributes: its tensor before an all-reduce, all-gather or reduce-scatter,
the rows that leave it in a dispatch, the rows that it returns in a combine. R is the number of rows that an
expert-parallel rank receives, one a token and chosen expert; under balanced load it is tokens x topk.
"""

from dataclasses import replace

from model_graphs.dtypes import tensor_bytes
from model_graphs.expressions import Expression, product, symbol
from model_graphs.graph import Collective, Operator, Role, Stream, Tensor
from model_graphs.sharding import activation_bytes, with_first_axis, with_tensors

ROWS = symbol("R")


def all_reduce(name: str, x: Tensor, group: str, n_ranks: int) -> Operator:
    """The sum over the ranks of the group, on every rank."""
    return _meeting("all_reduce", name, x, x, group, n_ranks)


def all_gather(name: str, x: Tensor, group: str, n_ranks: int, axis: int) -> Operator:
    """Every rank's tensor, side by side along the axis."""
    shape = list(x.shape)
    shape[axis] = shape[axis] * n_ranks
    return _meeting("all_gather", name, x, replace(x, shape=tuple(shape), name=""), group, n_ranks)


def reduce_scatter(name: str, x: Tensor, group: str, n_ranks: int) -> Operator:
    """This rank's share of the rows of the sum."""
    share = with_first_axis(x, x.shape[0].divided(n_ranks))
    return _meeting("reduce_scatter", name, x, share, group, n_ranks)


def _meeting(kind: str, name: str, x: Tensor, y: Tensor, group: str, n_ranks: int) -> Operator:
    meeting = Collective(kind, group, n_ranks, tensor_bytes(x))
    argument = "x_ND" if kind == "reduce_scatter" else "x"
    return _collective(kind, name, (replace(x, name=argument),), (replace(y, name=""),), meeting)


def ep_dispatch(experts: Operator, n_ranks: int) -> Operator:
    """The tokens of this rank to the ranks that hold their experts, one row a choice."""
    x, weights, indices = (t for t in experts.inputs if t.role is not Role.WEIGHT)
    counts = Tensor((product((2,)), product((n_ranks,))), indices.dtype, Role.INDEX)
    received = tuple(_received(t) for t in (x, weights, indices))
    meeting = Collective("ep_dispatch", "ep", n_ranks, dispatched_bytes(x, indices))
    return _collective(
        "ep_dispatch", f"{experts.name}.dispatch", (x, weights, indices), (*received, counts), meeting
    )


def dispatched_bytes(x: Tensor, indices: Tensor) -> Expression:
    """Bytes of the rows of x that leave a rank: one a token and chosen expert."""
    return product((*indices.shape, tensor_bytes(with_first_axis(x, 1))))


def on_received_rows(experts: Operator) -> Operator:
    """The experts that a rank holds, on the rows that it received: each row has one of them."""
    x, weights, indices, *stacks = experts.inputs
    rows = (_received(x, x.name), _received(weights, weights.name), _received(indices, indices.name))
    held = int(experts.attrs["n_local_experts"])
    flop = product(
        (
            4 if "ungated" in experts.attrs else 6,
            ROWS,
            int(experts.attrs["hidden"]),
            int(experts.attrs["inter"]),
        )
    )
    local = with_tensors(experts, (*rows, *stacks), (with_first_axis(experts.outputs[0], ROWS),))
    attrs = {**experts.attrs, "topk": 1, "n_experts": held}
    return replace(local, name=f"{experts.name}.experts", flop=flop, causal_flop=flop, attrs=attrs)


def ep_combine(experts: Operator, n_ranks: int) -> Operator:
    """The weighted rows back to the ranks of their tokens, summed there."""
    indices = experts.inputs[2]
    y = replace(with_first_axis(experts.outputs[0], ROWS), name="y_RD")
    counts = Tensor((product((2,)), product((n_ranks,))), indices.dtype, Role.INDEX, "splits")
    meeting = Collective("ep_combine", "ep", n_ranks, tensor_bytes(y))
    return _collective(
        "ep_combine", f"{experts.name}.combine", (y, indices, counts), experts.outputs, meeting
    )


def _received(tensor: Tensor, name: str = "") -> Tensor:
    """The tensor with a row for each row received."""
    width = tensor.shape[1] if tensor.role is Role.ACTIVATION and tensor.dtype != "fp32" else product(())
    return replace(tensor, shape=(ROWS, width), name=name)


def _collective(
    kind: str, name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], meeting: Collective
) -> Operator:
    return Operator(
        name=name,
        kind=kind,
        inputs=inputs,
        outputs=outputs,
        deps=(),
        activation_read_bytes=activation_bytes(inputs),
        activation_write_bytes=activation_bytes(outputs),
        stream=Stream.COMMUNICATION,
        collective=meeting,
        component="collective",
    )
