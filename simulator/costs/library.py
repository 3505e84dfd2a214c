"""The kernel library: latencies of every kernel family on one system, as one serving engine would run them.

Dimensions broadcast like numpy arrays and the estimate has their common shape (`()` for scalars); a call with an
empty dimension takes no time. Scalar calls are memoised. Latencies are those of kernels inside a captured graph: no
host time, and operands cold in cache as they are while serving.
"""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.evidence import Grade, worst
from simulator.costs import collectives as comm
from simulator.costs.bandwidth import KINDS, bandwidth_latency
from simulator.costs.calibration import Calibrations, Choice, shipped_calibrations
from simulator.costs.decode import DecodeShape, decode_latency, mla_decode_shape
from simulator.costs.estimates import BOUNDS, FloatArray, KernelEstimate
from simulator.costs.expert_load import expert_load
from simulator.costs.figures import DeviceFigures, dtype_name, element_bytes
from simulator.costs.gemm import GemmShape, gemm_latency
from simulator.costs.kernel_choice import (
    KernelChoice,
    attention_kernels,
    check_backend,
    decode_kernels,
    gemm_kernels,
    moe_kernels,
)
from simulator.costs.moe import MoeShape, moe_latency
from simulator.costs.numerics import Priced
from simulator.costs.prefill import PrefillShape, mla_prefill_shape, prefill_latency

#: dtypes whose kernels nobody measured borrow the constants of the dtype beside them, at grade D
_STAND_IN = {"fp16": "bf16", "mxfp8": "fp8_block", "int8": "fp8", "mxfp4": "nvfp4"}
_ROUTED_ROW = (7168, 8)  # hidden width and top-k behind the per-token cost of an exchange, unless given
_DATASHEET_LOG_HALF_WIDTH = 0.6
_MAX_MEMO = 200_000

Pricer = Callable[..., Priced]


class KernelLibrary:
    """Prices kernels on `system` as `backend` (vllm, sglang or trtllm) runs them."""

    def __init__(self, system: SystemSpec, backend: str, calibrations: Calibrations | None = None) -> None:
        self.device = DeviceFigures.from_system(system)
        self.backend = check_backend(backend)
        self._calibrations = calibrations or shipped_calibrations()
        self._memo: dict[Hashable, KernelEstimate] = {}

    def gemm(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str = "bf16") -> KernelEstimate:
        """[m, k] by [n, k], output in 16 bits; activation quantisation is an operator of its own."""
        return self.batched_gemm(1, m, n, k, dtype, family="gemm")

    def batched_gemm(
        self,
        batch: ArrayLike,
        m: ArrayLike,
        n: ArrayLike,
        k: ArrayLike,
        dtype: str = "bf16",
        family: str = "batched_gemm",
    ) -> KernelEstimate:
        """`batch` independent GEMMs in one call, such as the absorbed projections of MLA over heads."""
        dtype = dtype_name(dtype)
        peak = self.device.peak(dtype)
        choice = gemm_kernels(self.backend, dtype) if family == "gemm" else KernelChoice(("cublas",))

        def price(c: Any, b: FloatArray, m: FloatArray, n: FloatArray, k: FloatArray) -> Priced:
            return gemm_latency(GemmShape(m, n, k, element_bytes(dtype), b), peak, self.device, c)

        return self._estimate(family, dtype, choice, price, batch, m, n, k)

    def mla_decode(
        self, batch: ArrayLike, context: ArrayLike, heads: ArrayLike, kv_dtype: str = "bf16"
    ) -> KernelEstimate:
        """Absorbed MLA: one new token of each sequence over `context` latent rows, `heads` on this rank."""
        kv = dtype_name(kv_dtype)
        # Blackwell's fp8 MLA multiplies in fp8, Hopper's only stores in it
        compute = "fp8" if kv == "fp8" and self.device.architecture == "blackwell" else "bf16"
        peak = self.device.peak(compute)

        def price(c: Any, b: FloatArray, s: FloatArray, h: FloatArray) -> Priced:
            return decode_latency(mla_decode_shape(b, s, h, element_bytes(kv)), peak, self.device, c)

        return self._estimate("mla_decode", kv, KernelChoice(("trtllm",)), price, batch, context, heads)

    def mla_prefill(
        self,
        batch: ArrayLike,
        isl: ArrayLike,
        heads: ArrayLike,
        dtype: str = "bf16",
        past: ArrayLike = 0,
    ) -> KernelEstimate:
        """Naive MLA over `isl` new tokens of each sequence after `past` cached ones (already expanded)."""
        dtype = dtype_name(dtype)
        peak = self.device.peak(dtype)

        def price(c: Any, b: FloatArray, s: FloatArray, h: FloatArray, p: FloatArray) -> Priced:
            return prefill_latency(mla_prefill_shape(b, s, h, p), peak, self.device, c)

        choice = KernelChoice(("trtllm",))
        return self._estimate("mla_prefill", dtype, choice, price, batch, isl, heads, past, may_be_zero=1)

    def attention_prefill(
        self,
        batch: ArrayLike,
        isl: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        head_dim: ArrayLike,
        window: ArrayLike = 0,
        dtype: str = "bf16",
        kv_dtype: str = "bf16",
        past: ArrayLike = 0,
    ) -> KernelEstimate:
        """Causal attention of `isl` new tokens after `past`; `window` 0 is full attention."""
        dtype, kv_bytes = dtype_name(dtype), element_bytes(kv_dtype)
        peak = self.device.peak(dtype)

        def price(c: Any, *dims: FloatArray) -> Priced:
            b, s, h, kv, d, w, p = dims
            return prefill_latency(PrefillShape(b, s, h, kv, d, d, w, kv_bytes, p), peak, self.device, c)

        choice = attention_kernels(self.backend)
        dims = (batch, isl, heads, kv_heads, head_dim, window, past)
        return self._estimate("attention_prefill", dtype, choice, price, *dims, may_be_zero=2)

    def attention_decode(
        self,
        batch: ArrayLike,
        context: ArrayLike,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
        kv_dtype: str = "bf16",
    ) -> KernelEstimate:
        """One new token of each sequence over `context` cached tokens, or the last `window` of them."""
        kv = dtype_name(kv_dtype)
        peak = self.device.peak("bf16")

        def price(c: Any, b: FloatArray, s: FloatArray) -> Priced:
            one = np.ones_like(b)
            seen = np.minimum(s, window) if window else s
            row_bytes = 2 * head_dim * element_bytes(kv)
            dims = (heads * one, kv_heads * one, head_dim * one, head_dim * one, row_bytes * one)
            return decode_latency(DecodeShape(b, seen, *dims), peak, self.device, c)

        choice = decode_kernels(self.backend, grouped=heads > kv_heads)
        key = (heads, kv_heads, head_dim, window)
        return self._estimate("attention_decode", kv, choice, price, batch, context, memo_key=key)

    def moe(
        self,
        tokens: ArrayLike,
        hidden: int,
        inter: int,
        topk: int,
        experts: int,
        moe_tp: int = 1,
        moe_ep: int = 1,
        dtype: str = "fp8_block",
        distribution: str = "power_law_1.01",
    ) -> KernelEstimate:
        """Routed experts of the busiest rank; `tokens` are those of all ranks before dispatch, `inter` is global."""
        dtype = dtype_name(dtype)
        peak = self.device.peak(dtype)
        _check_divides("moe_tp", moe_tp, "inter", inter)
        _check_divides("moe_ep", moe_ep, "experts", experts)

        def price(c: Any, t: FloatArray) -> Priced:
            one = np.ones_like(t)
            load = expert_load(t, experts, topk, moe_ep, distribution)
            columns, local = inter / moe_tp, experts / moe_ep
            dims = (hidden * one, columns * one, topk * one, local * one)
            return moe_latency(MoeShape(t, *dims, load, element_bytes(dtype)), peak, self.device, c)

        choice = moe_kernels(self.backend, dtype, self.device.architecture)
        key = (hidden, inter, topk, experts, moe_tp, moe_ep, distribution)
        return self._estimate("moe", dtype, choice, price, tokens, memo_key=key)

    def bandwidth_bound(self, traffic_bytes: ArrayLike, kind: str) -> KernelEstimate:
        """An operator that only moves `traffic_bytes` (read and written): see `bandwidth.KINDS`."""
        if kind not in KINDS:
            raise InputError(
                Problem(f"kind must be one of {', '.join(KINDS)}", kind, suggestion=nearest(kind, KINDS))
            )

        def price(c: Any, traffic: FloatArray) -> Priced:
            return bandwidth_latency(traffic, self.device, c)

        return self._estimate("bandwidth", "any", KernelChoice(("elementwise",)), price, traffic_bytes)

    def collective(
        self,
        op: str,
        n_ranks: int,
        message_bytes: ArrayLike,
        *,
        hidden: int = _ROUTED_ROW[0],
        topk: int = _ROUTED_ROW[1],
    ) -> KernelEstimate:
        """A meeting of `n_ranks`; `message_bytes` is what one rank contributes.

        That is the vector of an all-reduce, the shard of an all-gather, the whole partial sum of a reduce-scatter,
        the send buffer of an all-to-all, and tokens x topk x hidden x wire bytes of an expert exchange (`hidden` and
        `topk` then give the tokens, which cost time of their own). Beyond one node the NICs bound it.

        Raises:
            InputError: the operation is unknown.
        """
        if n_ranks <= 1:
            return self._no_time(np.broadcast_to(0.0, np.shape(message_bytes)))
        if op in comm.EXCHANGE_OPS:
            return self._exchange(op, n_ranks, message_bytes, hidden, topk)
        if op == "all_reduce" and n_ranks <= self.device.devices_per_node:
            return _fastest(
                self._custom_all_reduce(n_ranks, message_bytes), self._nccl(op, n_ranks, message_bytes)
            )
        return self._nccl(op, n_ranks, message_bytes)

    def expert_exchange(
        self, op: str, n_ranks: int, tokens: ArrayLike, hidden: int, topk: int, n_sm: int = 24
    ) -> KernelEstimate:
        """DeepEP's normal kernels for prefill: each of a rank's `tokens` goes once to every rank that needs it."""
        place, link, targets = self._exchange_place(n_ranks)

        def price(c: Any, t: FloatArray) -> Priced:
            wire = comm.bulk_wire_bytes(t, np.float64(hidden), np.float64(topk), np.float64(targets))
            return comm.bulk_exchange_latency(t, wire, np.float64(n_sm), link, c)

        choice = KernelChoice((f"{op.removeprefix('ep_')}_{place}",))
        return self._estimate(
            "ep_bulk", "any", choice, price, tokens, memo_key=(op, n_ranks, hidden, topk, n_sm)
        )

    def _custom_all_reduce(self, n_ranks: int, message_bytes: ArrayLike) -> KernelEstimate:
        kernel = "trtllm" if self.backend == "trtllm" else "vllm"
        link = self.device.scale_up_bytes_per_s

        def price(c: Any, size: FloatArray) -> Priced:
            return comm.custom_all_reduce_latency(np.float64(n_ranks), size, link, c)

        choice = KernelChoice((kernel, "vllm", "trtllm"))
        return self._estimate("custom_all_reduce", "any", choice, price, message_bytes, memo_key=n_ranks)

    def _nccl(self, op: str, n_ranks: int, message_bytes: ArrayLike) -> KernelEstimate:
        comm.wire_factor(op, np.float64(n_ranks))
        inside = n_ranks <= self.device.devices_per_node
        link = self.device.scale_up_bytes_per_s if inside else self.device.scale_out_bytes_per_s

        def price(c: Any, message: FloatArray) -> Priced:
            size = comm.size_of_message(op, np.float64(n_ranks), message)
            return comm.nccl_latency(op, np.float64(n_ranks), size, link, c)

        estimate = self._estimate("nccl", "any", KernelChoice((op,)), price, message_bytes, memo_key=n_ranks)
        return estimate if inside else _weakened(estimate, "one flat ring over the NICs, not calibrated")

    def _exchange(
        self, op: str, n_ranks: int, message_bytes: ArrayLike, hidden: int, topk: int
    ) -> KernelEstimate:
        place, link, targets = self._exchange_place(n_ranks)
        leaving = 1.0 if place == "node" else 1 - 1 / targets

        def price(c: Any, message: FloatArray) -> Priced:
            tokens = message / (topk * hidden * comm.WIRE_BYTES[op])
            return comm.exchange_latency(tokens, message * leaving, link, c)

        choice = KernelChoice((f"{op.removeprefix('ep_')}_{place}",))
        return self._estimate(
            "ep_low_latency", "any", choice, price, message_bytes, memo_key=(n_ranks, hidden, topk)
        )

    def _exchange_place(self, n_ranks: int) -> tuple[str, float, int]:
        """Where an exchange happens, the link that binds it, and the number of ranks or nodes it goes to."""
        if n_ranks <= self.device.devices_per_node:
            return "node", self.device.scale_up_bytes_per_s, n_ranks
        return "cluster", self.device.scale_out_bytes_per_s, -(-n_ranks // self.device.devices_per_node)

    def _estimate(
        self,
        family: str,
        dtype: str,
        kernels: KernelChoice,
        price: Pricer,
        *dims: ArrayLike,
        may_be_zero: int = 0,
        memo_key: Hashable = None,
    ) -> KernelEstimate:
        """Price a call, from memory when it is a scalar one; the last `may_be_zero` dimensions may be 0."""
        if any(np.ndim(dim) for dim in dims):
            return self._priced(family, dtype, kernels, price, dims, may_be_zero)
        key = (family, dtype, memo_key, *(float(np.asarray(dim)) for dim in dims))
        if key not in self._memo:
            if len(self._memo) >= _MAX_MEMO:
                self._memo.clear()
            self._memo[key] = self._priced(family, dtype, kernels, price, dims, may_be_zero)
        return self._memo[key]

    def _priced(
        self,
        family: str,
        dtype: str,
        kernels: KernelChoice,
        price: Pricer,
        dims: tuple[ArrayLike, ...],
        may_be_zero: int,
    ) -> KernelEstimate:
        arrays = np.broadcast_arrays(*(np.asarray(dim, np.float64) for dim in dims))
        shape = arrays[0].shape
        flat = [array.ravel() for array in arrays]
        if any((array < 0).any() or not np.isfinite(array).all() for array in flat):
            raise InputError(
                Problem("dimensions of a kernel call must be finite and not negative", path=family)
            )
        sized = flat[: len(flat) - may_be_zero]
        empty = np.any([array == 0 for array in sized], axis=0)
        filled = [np.where(empty, 1.0, array) for array in sized] + flat[len(sized) :]
        choices = self._choices(family, dtype, kernels)
        estimates = [
            _as_estimate(price(choice.calibrated.constants, *filled), choice, empty, shape)
            for choice in choices
        ]
        best = estimates[0]
        for other in estimates[1:]:
            best = _fastest(best, other)
        return best

    def _choices(self, family: str, dtype: str, kernels: KernelChoice) -> tuple[Choice, ...]:
        if kernels.best_of and (
            own := self._calibrations.own(self.device, family, dtype, kernels.kernels[:2])
        ):
            return own
        stand_in = _STAND_IN.get(dtype)
        if stand_in is None:
            return (self._calibrations.find(self.device, family, dtype, kernels.kernels),)
        return (self._stand_in(family, dtype, stand_in, kernels),)

    def _stand_in(self, family: str, dtype: str, stand_in: str, kernels: KernelChoice) -> Choice:
        """Constants of a neighbouring dtype: the formula keeps the peak and bytes of the dtype itself."""
        named = gemm_kernels(self.backend, stand_in).kernels if family == "gemm" else kernels.kernels
        found = self._calibrations.find(self.device, family, stand_in, named)
        width = max(found.log_half_width, _DATASHEET_LOG_HALF_WIDTH)
        return Choice(found.calibrated, Grade.D, width, f"{dtype} priced with {found.evidence}")

    def _no_time(self, shape_of: FloatArray) -> KernelEstimate:
        zero = np.zeros(shape_of.shape)
        return KernelEstimate(zero, zero.astype(np.int8), zero, Grade.A, "one rank: nothing to exchange")


def _as_estimate(priced: Priced, choice: Choice, empty: FloatArray, shape: tuple[int, ...]) -> KernelEstimate:
    return KernelEstimate(
        np.where(empty, 0.0, priced.latency_s).reshape(shape),
        np.where(empty, BOUNDS.index("launch"), priced.bound).astype(np.int8).reshape(shape),
        np.full(shape, choice.log_half_width),
        choice.grade,
        choice.evidence,
    )


def _fastest(first: KernelEstimate, second: KernelEstimate) -> KernelEstimate:
    """The faster of two kernels call by call, known as badly as the worse of them."""
    wins = first.latency_s <= second.latency_s
    return KernelEstimate(
        np.where(wins, first.latency_s, second.latency_s),
        np.where(wins, first.bound, second.bound).astype(np.int8),
        np.where(wins, first.log_half_width, second.log_half_width),
        worst(first.grade, second.grade),
        f"fastest of: {first.evidence}; {second.evidence}",
    )


def _weakened(estimate: KernelEstimate, why: str) -> KernelEstimate:
    width = np.maximum(estimate.log_half_width, _DATASHEET_LOG_HALF_WIDTH)
    grade = worst(estimate.grade, Grade.D)
    return KernelEstimate(estimate.latency_s, estimate.bound, width, grade, f"{why}; {estimate.evidence}")


def _check_divides(ways_name: str, ways: int, what: str, total: int) -> None:
    if ways < 1 or total % ways:
        raise InputError(Problem(f"{ways_name} must divide {what} = {total}", str(ways)))
