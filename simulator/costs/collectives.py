"""Collectives on a scale-up fabric: custom all-reduce, NCCL rings, and the expert exchanges of DeepEP.

Custom all-reduce has a one-shot form (everybody reads everybody) and a two-shot form (reduce-scatter, all-
gather); NCCL has a low-latency and a bandwidth protocol. Both pairs meet in a smooth minimum. Sizes are
those of nccl-tests: `size_bytes` is the whole vector of an all-reduce, and of an all-gather, reduce-scatter
or all-to-all the bytes of all ranks' shards together. `message_bytes`, what one rank contributes, is turned
into it by `size_of_message`.
"""

from dataclasses import dataclass

import numpy as np

from hardware_specs.records.errors import InputError, Problem, nearest
from simulator.costs.estimates import FloatArray
from simulator.costs.numerics import Priced, constant, largest_term, smooth_min

#: one number for all calls, or one a call
Real = float | FloatArray

RING_OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
EXCHANGE_OPS = ("ep_dispatch", "ep_combine")
#: bytes of an element on the wire: dispatch in fp8, combine in bf16
WIRE_BYTES = {"ep_dispatch": 1.0, "ep_combine": 2.0}


@dataclass(frozen=True)
class CustomAllReduceConstants:
    """One-shot and two-shot all-reduce kernels of a serving engine."""

    launch_s: float = constant(5.0, 0.6, "us")
    rank_s: float = constant(0.3, 0.8, "us")  # for each rank beyond two
    two_shot_s: float = constant(5.0, 0.7, "us")
    one_shot_efficiency: float = constant(0.5, 0.5)
    two_shot_efficiency: float = constant(0.7, 0.3)
    sharpness: float = constant(4.0, 0.3)


@dataclass(frozen=True)
class NcclConstants:
    """NCCL's low-latency and bandwidth (simple) protocols for one operation."""

    launch_s: float = constant(8.0, 0.6, "us")
    rank_s: float = constant(0.5, 0.8, "us")  # for each rank beyond two
    low_latency_efficiency: float = constant(0.15, 0.6)
    simple_s: float = constant(25.0, 0.6, "us")
    simple_efficiency: float = constant(0.75, 0.25)
    sharpness: float = constant(4.0, 0.3)


@dataclass(frozen=True)
class ExchangeConstants:
    """DeepEP's low-latency kernels: one message a token and chosen expert."""

    launch_s: float = constant(15.0, 0.5, "us")
    link_efficiency: float = constant(0.6, 0.5)
    token_s: float = constant(0.05, 1.0, "us")


@dataclass(frozen=True)
class BulkExchangeConstants:
    """DeepEP's normal kernels: a token goes once to each rank that needs it, moved by `n_sm` SMs."""

    launch_s: float = constant(30.0, 0.5, "us")
    link_efficiency: float = constant(0.5, 0.5)
    sm_rate: float = constant(0.05, 0.7)  # of 100 GB/s, that one SM moves
    token_s: float = constant(0.02, 1.0, "us")


@dataclass(frozen=True)
class RingShape:
    """Calls inside one fabric whose size is that of nccl-tests."""

    n_ranks: Real
    size_bytes: FloatArray

    def __len__(self) -> int:
        return len(self.size_bytes)


@dataclass(frozen=True)
class ExchangeShape:
    """Expert exchanges of one rank: its tokens, the bytes that leave it, and the SMs that move them."""

    tokens: FloatArray
    wire_bytes: FloatArray
    n_sm: Real = 1.0

    def __len__(self) -> int:
        return len(self.tokens)


_SM_RATE_BYTES_PER_S = 100e9


def op_and_group(kernel: str) -> tuple[str, int]:
    """Operation and ranks of an entry's name: `all_reduce_4` is of four ranks alone, 0 is of all."""
    name, _, ranks = kernel.rpartition("_")
    return (name, int(ranks)) if ranks.isdigit() else (kernel, 0)


def size_of_message(op: str, n_ranks: Real, message_bytes: FloatArray) -> FloatArray:
    """The nccl-tests size of a call to which every rank contributes `message_bytes`."""
    return np.asarray(message_bytes * n_ranks if op == "all_gather" else message_bytes, np.float64)


def wire_factor(op: str, n_ranks: Real) -> FloatArray:
    """Bytes a rank sends over its link, as a multiple of the size.

    Raises:
        InputError: the operation is unknown.
    """
    if op not in RING_OPS:
        raise InputError(
            Problem(f"collective must be one of {', '.join(RING_OPS)}", op, suggestion=nearest(op, RING_OPS))
        )
    return np.asarray((2 if op == "all_reduce" else 1) * (n_ranks - 1) / n_ranks, np.float64)


def custom_all_reduce_latency(
    n_ranks: Real, size_bytes: FloatArray, link_bytes_per_s: float, c: CustomAllReduceConstants
) -> Priced:
    """Latency of an all-reduce kernel over peer memory, inside one node."""
    fixed_s = c.launch_s + c.rank_s * (n_ranks - 2)
    one_shot_s = (n_ranks - 1) * size_bytes / (link_bytes_per_s * c.one_shot_efficiency)
    two_shot_s = wire_factor("all_reduce", n_ranks) * size_bytes / (link_bytes_per_s * c.two_shot_efficiency)
    latency_s = smooth_min(c.sharpness, fixed_s + one_shot_s, fixed_s + c.two_shot_s + two_shot_s)
    return _with_bound(latency_s, np.minimum(one_shot_s, two_shot_s))


def nccl_latency(
    op: str, n_ranks: Real, size_bytes: FloatArray, link_bytes_per_s: float, c: NcclConstants
) -> Priced:
    """Latency of one NCCL call inside one fabric."""
    fixed_s = c.launch_s + c.rank_s * (n_ranks - 2)
    wire_s = wire_factor(op, n_ranks) * size_bytes / link_bytes_per_s
    low_latency_s = fixed_s + wire_s / c.low_latency_efficiency
    simple_s = fixed_s + c.simple_s + wire_s / c.simple_efficiency
    latency_s = smooth_min(c.sharpness, low_latency_s, simple_s)
    return _with_bound(latency_s, wire_s / c.simple_efficiency)


def nccl_over_nodes_latency(
    op: str,
    n_local: Real,
    n_nodes: Real,
    size_bytes: FloatArray,
    links_bytes_per_s: tuple[float, float],
    c: NcclConstants,
) -> Priced:
    """Latency of one NCCL call over several nodes: inside each over its fabric, between them over every NIC.

    An all-reduce is a reduce-scatter inside, an all-reduce of each device's share over its NIC, and an
    all-gather inside; the other rings have the phase between and one inside. Phases overlap but for their
    fixed times, so the busier of fabric and NICs counts. Links: of a device inside and out of a node.
    """
    inside, outside = links_bytes_per_s
    ends = ("reduce_scatter", "all_gather") if op == "all_reduce" else (op,)
    inner_bytes = size_bytes / n_nodes if op == "all_to_all" else size_bytes
    outer_bytes = size_bytes if op == "all_to_all" else size_bytes / n_local
    fabric = [_fixed_and_wire_s(end, n_local, inner_bytes, inside, c) for end in ends]
    nics = _fixed_and_wire_s(op, n_nodes, outer_bytes, outside, c)
    fixed_s = sum(fixed for fixed, _ in fabric) + nics[0]
    wire_s = np.maximum(sum(wire for _, wire in fabric), nics[1])
    return _with_bound(fixed_s + wire_s, wire_s)


def _fixed_and_wire_s(
    op: str, n_ranks: Real, size_bytes: FloatArray, link_bytes_per_s: float, c: NcclConstants
) -> tuple[FloatArray, FloatArray]:
    """Seconds of a call without bytes, and what its bytes add."""
    whole, fixed = (
        nccl_latency(op, n_ranks, size, link_bytes_per_s, c).latency_s
        for size in (size_bytes, np.zeros_like(size_bytes))
    )
    return fixed, whole - fixed


def exchange_latency(
    tokens: FloatArray, wire_bytes: FloatArray, link_bytes_per_s: float, c: ExchangeConstants
) -> Priced:
    """Latency of a low-latency dispatch or combine of one rank's `tokens`."""
    wire_s = wire_bytes / (link_bytes_per_s * c.link_efficiency)
    return _with_bound(c.launch_s + wire_s + c.token_s * tokens, wire_s, ExchangeShape(tokens, wire_bytes))


def bulk_exchange_latency(
    tokens: FloatArray,
    wire_bytes: FloatArray,
    n_sm: Real,
    link_bytes_per_s: float,
    c: BulkExchangeConstants,
) -> Priced:
    """Latency of a normal (prefill) dispatch or combine of one rank's `tokens`."""
    rate = np.minimum(link_bytes_per_s * c.link_efficiency, n_sm * c.sm_rate * _SM_RATE_BYTES_PER_S)
    wire_s = wire_bytes / rate
    shape = ExchangeShape(tokens, wire_bytes, n_sm)
    return _with_bound(c.launch_s + wire_s + c.token_s * tokens, wire_s, shape)


def bulk_wire_bytes(tokens: FloatArray, hidden: Real, topk: Real, n_targets: Real) -> FloatArray:
    """Expected bytes that leave a rank when a token goes once to each target with a chosen expert."""
    reached = n_targets * (1 - (1 - 1 / n_targets) ** topk)
    return np.asarray(2 * hidden * tokens * reached * (1 - 1 / n_targets), np.float64)


def _with_bound(latency_s: FloatArray, wire_s: FloatArray, shape: object = None) -> Priced:
    latency_s = np.asarray(latency_s, np.float64)
    wire_s = np.broadcast_to(wire_s, latency_s.shape)
    return Priced(latency_s, largest_term(launch=latency_s - wire_s, network=wire_s), shape)
