"""Prices of collectives on one system: which kernel meets, over which link, with which constants."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.evidence import Grade
from simulator.costs import collectives as comm
from simulator.costs.estimates import FloatArray, KernelEstimate
from simulator.costs.kernel_choice import KernelChoice
from simulator.costs.numerics import Priced
from simulator.costs.pricing import Pricing, fastest, weakened

#: hidden width and top-k of the rows behind the per-token cost of an exchange, unless a call gives its own
V3_ROUTED_ROW = (7168, 8)
#: ranks of the largest all-reduce with constants of its own, which larger ones take
_LARGEST_TIMED = 16
_OPS = (*comm.RING_OPS, *comm.EXCHANGE_OPS)


class Communication:
    """Collectives of one rank. Beyond one node the NICs bound them."""

    def __init__(self, pricing: Pricing, kernel: str = "") -> None:
        """`kernel` is the one that answers for an all-reduce, where a call names it."""
        self._kernel = kernel
        self._pricing = pricing
        self._device = pricing.device

    def collective(
        self, op: str, n_ranks: int, message_bytes: ArrayLike, bytes_per_token: float | None
    ) -> KernelEstimate:
        """See `KernelLibrary.collective`."""
        if op not in _OPS:
            raise InputError(
                Problem(f"collective must be one of {', '.join(_OPS)}", op, suggestion=nearest(op, _OPS))
            )
        if n_ranks <= 1:
            return _nothing_to_exchange(np.shape(message_bytes))
        if op in comm.EXCHANGE_OPS:
            hidden, topk = V3_ROUTED_ROW
            per_token = bytes_per_token or hidden * topk * comm.WIRE_BYTES[op]
            return self._low_latency_exchange(op, n_ranks, message_bytes, per_token)
        if op == "all_reduce" and n_ranks <= self._device.scale_up_devices:
            if self._kernel == "nccl":
                return self._nccl(op, n_ranks, message_bytes)
            custom = self._custom_all_reduce(n_ranks, message_bytes)
            if self._kernel:
                return custom
            return fastest(custom, self._nccl(op, n_ranks, message_bytes))
        return self._nccl(op, n_ranks, message_bytes)

    def expert_exchange(
        self, op: str, n_ranks: int, tokens: ArrayLike, hidden: int, topk: int, n_sm: int
    ) -> KernelEstimate:
        """See `KernelLibrary.expert_exchange`."""
        if n_ranks <= 1:
            return _nothing_to_exchange(np.shape(tokens))
        place, link, targets = self._exchange_place(n_ranks)

        def formula(c: Any, t: FloatArray) -> Priced:
            wire = comm.bulk_wire_bytes(t, hidden, topk, targets)
            return comm.bulk_exchange_latency(t, wire, n_sm, link, c)

        key = (op, n_ranks, hidden, topk, n_sm)
        return self._pricing("ep_bulk", "any", _exchange_kernel(op, place), formula, tokens, memo_key=key)

    def _custom_all_reduce(self, n_ranks: int, message_bytes: ArrayLike) -> KernelEstimate:
        link = self._device.scale_up_bytes_per_s

        def formula(c: Any, size: FloatArray) -> Priced:
            return comm.custom_all_reduce_latency(n_ranks, size, link, c)

        names = dict.fromkeys((self._kernel or self._pricing.backend, "vllm", "trtllm"))
        groups = dict.fromkeys((n_ranks, min(n_ranks, _LARGEST_TIMED)))
        ends = (*(f"_{ranks}" for ranks in groups), "")
        choice = KernelChoice(tuple(f"{name}{end}" for end in ends for name in names))
        return self._pricing("custom_all_reduce", "any", choice, formula, message_bytes, memo_key=n_ranks)

    def _nccl(self, op: str, n_ranks: int, message_bytes: ArrayLike) -> KernelEstimate:
        local = self._device.scale_up_devices
        inside, nodes = n_ranks <= local, -(-n_ranks // local)
        links = (self._device.scale_up_bytes_per_s, self._device.scale_out_bytes_per_s)

        def formula(c: Any, message: FloatArray) -> Priced:
            size = comm.size_of_message(op, n_ranks, message)
            if inside:
                return comm.nccl_latency(op, n_ranks, size, links[0], c)
            if local == 1:
                return comm.nccl_latency(op, n_ranks, size, links[1], c)
            return comm.nccl_over_nodes_latency(op, local, nodes, size, links, c)

        key = (op, n_ranks)
        names = (f"{op}_{n_ranks}", op) if inside else (f"{op}_{local}", op)
        found = self._pricing("nccl", "any", KernelChoice(names), formula, message_bytes, memo_key=key)
        return found if inside else weakened(found, "inside nodes and then over their NICs, never measured")

    def _low_latency_exchange(
        self, op: str, n_ranks: int, message_bytes: ArrayLike, bytes_per_token: float
    ) -> KernelEstimate:
        place, link, targets = self._exchange_place(n_ranks)
        leaving = 1.0 if place == "node" else 1 - 1 / targets

        def formula(c: Any, message: FloatArray) -> Priced:
            return comm.exchange_latency(message / bytes_per_token, message * leaving, link, c)

        key = (op, n_ranks, bytes_per_token)
        kernel = _exchange_kernel(op, place)
        return self._pricing("ep_low_latency", "any", kernel, formula, message_bytes, memo_key=key)

    def _exchange_place(self, n_ranks: int) -> tuple[str, float, int]:
        """Where an exchange happens, the link that binds it, and the ranks or nodes that it goes to."""
        if n_ranks <= self._device.scale_up_devices:
            return "node", self._device.scale_up_bytes_per_s, n_ranks
        nodes = -(-n_ranks // self._device.scale_up_devices)
        return "cluster", self._device.scale_out_bytes_per_s, nodes


def _exchange_kernel(op: str, place: str) -> KernelChoice:
    return KernelChoice((f"{op.removeprefix('ep_')}_{place}",))


def _nothing_to_exchange(shape: tuple[int, ...]) -> KernelEstimate:
    zero = np.zeros(shape)
    return KernelEstimate(zero, np.zeros(shape, np.int8), zero, Grade.A, "one rank: nothing to exchange")
