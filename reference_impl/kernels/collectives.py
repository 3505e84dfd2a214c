"""Kernels by which ranks meet, over `torch.distributed` groups that the caller names (`tp`, `dp`, `ep`).

A graph needs only the name and the width of a group; a run binds the names to real groups with
`process_groups`. Dimensions: N tokens of this rank, R rows received, D model width, K experts a token.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.registry import Call, Dim, kernel, product

_GROUPS: dict[str, dist.ProcessGroup] = {}


@contextmanager
def process_groups(groups: Mapping[str, dist.ProcessGroup]) -> Iterator[None]:
    """Bind group names to process groups for the collectives that run inside."""
    outer = dict(_GROUPS)
    _GROUPS.update(groups)
    try:
        yield
    finally:
        _GROUPS.clear()
        _GROUPS.update(outer)


def _input_bytes(call: Call) -> Dim:
    return next(iter(call.inputs.values())).n_bytes


def _all_reduce_fake(x: Tensor, group: str, n_ranks: int) -> Tensor:
    return x.new_empty(x.shape)


@kernel("all_reduce", fake=_all_reduce_fake, message_bytes=_input_bytes)
def all_reduce(x: Tensor, group: str, n_ranks: int) -> Tensor:
    """Sum over the ranks of the group, on every rank."""
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=_GROUPS[group])
    return total


def _all_gather_fake(x: Tensor, group: str, n_ranks: int, axis: int) -> Tensor:
    shape = list(x.shape)
    shape[axis] = shape[axis] * n_ranks
    return x.new_empty(shape)


@kernel("all_gather", fake=_all_gather_fake, message_bytes=_input_bytes)
def all_gather(x: Tensor, group: str, n_ranks: int, axis: int) -> Tensor:
    """Every rank's tensor, in rank order along the axis."""
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(n_ranks)]
    dist.all_gather(parts, x.contiguous(), group=_GROUPS[group])
    return torch.cat(parts, axis)


def _reduce_scatter_fake(x_ND: Tensor, group: str, n_ranks: int) -> Tensor:
    return x_ND.new_empty((x_ND.shape[0] // n_ranks, x_ND.shape[1]))


@kernel("reduce_scatter", fake=_reduce_scatter_fake, message_bytes=_input_bytes)
def reduce_scatter(x_ND: Tensor, group: str, n_ranks: int) -> Tensor:
    """This rank's part of the rows of the sum over the ranks of the group."""
    total = x_ND.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=_GROUPS[group])
    return total.chunk(n_ranks)[dist.get_rank(_GROUPS[group])].clone()


def _n_received(x_ND: Tensor, indices_NK: Tensor) -> int:
    """Rows received: a number of its own in an export, the balanced expectation on plain meta tensors."""
    if isinstance(x_ND.shape[0], torch.SymInt):
        return torch.library.get_ctx().new_dynamic_size()
    return indices_NK.numel()


def _dispatch_fake(
    x_ND: Tensor, weights_NK: Tensor, indices_NK: Tensor, group: str, n_ranks: int, n_experts: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n_rows = _n_received(x_ND, indices_NK)
    return (
        x_ND.new_empty((n_rows, x_ND.shape[1])),
        weights_NK.new_empty((n_rows, 1)),
        indices_NK.new_empty((n_rows, 1)),
        indices_NK.new_empty((2, n_ranks)),
    )


def _dispatched_bytes(call: Call) -> Dim:
    """The rows that leave: one a chosen expert."""
    x = call["x_ND"]
    return product(call["indices_NK"].n_elements, x.shape[1], x.element_bytes)


@kernel(
    "ep_dispatch",
    fake=_dispatch_fake,
    inputs={"indices_NK": Role.INDEX},
    outputs=(Role.ACTIVATION, Role.ACTIVATION, Role.INDEX, Role.INDEX),
    message_bytes=_dispatched_bytes,
)
def ep_dispatch(
    x_ND: Tensor, weights_NK: Tensor, indices_NK: Tensor, group: str, n_ranks: int, n_experts: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Send each token to the ranks that hold its experts, one row a choice.

    Returns the rows received [R, D], their weights [R, 1], their experts counted from this rank's first [R,
    1], and the rows sent to and received from each rank [2, ranks].
    """
    held = n_experts // n_ranks
    flat = indices_NK.flatten()
    order = flat.argsort(stable=True)
    sent = torch.bincount(flat // held, minlength=n_ranks)
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=_GROUPS[group])
    splits = torch.stack([sent, received])
    rows = _exchange(x_ND[order // indices_NK.shape[1]], splits, group)
    weights = _exchange(weights_NK.flatten()[order, None], splits, group)
    experts = _exchange((flat % held)[order, None], splits, group)
    return rows, weights, experts, splits


def _exchange(rows: Tensor, splits: Tensor, group: str) -> Tensor:
    sent, received = splits.tolist()
    out = rows.new_empty((sum(received), rows.shape[1]))
    dist.all_to_all_single(out, rows.contiguous(), received, sent, group=_GROUPS[group])
    return out


def _combine_fake(y_RD: Tensor, indices_NK: Tensor, splits: Tensor, group: str, n_ranks: int) -> Tensor:
    return y_RD.new_empty((indices_NK.shape[0], y_RD.shape[1]))


@kernel(
    "ep_combine",
    fake=_combine_fake,
    inputs={"indices_NK": Role.INDEX, "splits": Role.INDEX},
    message_bytes=_input_bytes,
)
def ep_combine(y_RD: Tensor, indices_NK: Tensor, splits: Tensor, group: str, n_ranks: int) -> Tensor:
    """Send the weighted rows back and sum them per token [N, D]."""
    n_tokens, topk = indices_NK.shape
    rows = _exchange(y_RD, splits.flip(0), group)
    token = indices_NK.flatten().argsort(stable=True) // topk
    return rows.new_zeros((n_tokens, rows.shape[1])).index_add_(0, token, rows)
