"""The kernel library: latencies of every kernel family on one system, as one serving engine would run them.

Dimensions broadcast like numpy arrays and the estimate has their common shape (`()` for scalars); a call
with an empty dimension takes no time; scalar calls are remembered. Latencies are those of kernels inside a
captured graph, without host time, and by default with operands cold in cache as they are while serving.
"""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem, nearest
from simulator.costs.bandwidth import KINDS, bandwidth_latency
from simulator.costs.calibration import Calibrations, shipped_calibrations
from simulator.costs.communication import Communication
from simulator.costs.decode import (
    SHORT_WINDOW,
    DecodeShape,
    decode_latency,
    mla_decode_shape,
    windowed_context,
)
from simulator.costs.estimates import FloatArray, KernelEstimate
from simulator.costs.expert_load import expert_load
from simulator.costs.figures import MIXED_PRODUCTS, DeviceFigures, dtype_name, element_bytes, product_types
from simulator.costs.gemm import UNQUANTISED, GemmShape, gemm_latency, timed_copies
from simulator.costs.kernel_choice import (
    BULK_TOKENS,
    KernelChoice,
    attention_kernels,
    check_backend,
    decode_compute_dtype,
    decode_kernels,
    expert_dtype,
    gemm_kernels,
    moe_kernels,
)
from simulator.costs.moe import MoeShape, moe_latency
from simulator.costs.numerics import Priced
from simulator.costs.prefill import PrefillShape, mla_prefill_shape, prefill_latency
from simulator.costs.pricing import Pricing, fastest, from_threshold, weakened
from simulator.costs.recurrent import LAUNCHES, RecurrenceShape, recurrence_latency
from simulator.costs.sequence_kernels import SequenceKernels

if TYPE_CHECKING:
    from simulator.costs.engines import Engine

_NO_TRAFFIC_BYTES = 1e-6


class KernelLibrary:
    """Prices kernels on `system` as `backend` (vllm, sglang or trtllm) runs them.

    Kernels are those of the device's digital unit; `engine` is what runs products beside it, in a graph.
    """

    def __init__(
        self,
        system: SystemSpec,
        backend: str,
        calibrations: Calibrations | None = None,
        *,
        engine: "Engine | None" = None,
        timed_kernel: str = "",
    ) -> None:
        """With `timed_kernel`, an entry's name, calls are priced as the benchmark of that kernel times them.

        Operands are then warm where the benchmark leaves them so, and quantising the input is part of a GEMM.
        """
        self.engine = engine
        self._timed_kernel = timed_kernel
        self.device = DeviceFigures.from_system(system)
        self.backend = check_backend(backend)
        self._price = Pricing(self.device, backend, calibrations or shipped_calibrations())
        self._communication = Communication(self._price, timed_kernel)
        self.sequences = SequenceKernels(self._price, timed_kernel)

    @cached_property
    def launch_s(self) -> float:
        """Seconds of a kernel that moves next to nothing: what is left is its launch."""
        return float(self.bandwidth_bound(_NO_TRAFFIC_BYTES, "add").latency_s)

    def gemm(
        self, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str = "bf16", *, cold: bool = True
    ) -> KernelEstimate:
        """[m, k] by [n, k], output in 16 bits; activation quantisation is an operator of its own."""
        dtype = dtype if dtype in MIXED_PRODUCTS else dtype_name(dtype)
        stored, multiplied = product_types(dtype)
        sizes, timed = (element_bytes(stored), element_bytes(multiplied)), self._timed_kernel
        peak = self.device.peak(multiplied)
        cold = cold and not timed

        def formula(c: Any, m: FloatArray, n: FloatArray, k: FloatArray) -> Priced:
            shape = GemmShape(m, n, k, sizes[1], stored_bytes=sizes[0])
            if timed:
                fills = timed in ("cublas", "trtllm")
                copies = timed_copies(n, k, sizes[0], self.device.l2_bytes, fills_cache=fills)
                quantizes = dtype not in UNQUANTISED
                shape = replace(shape, weight_copies=copies, quantizes_input=quantizes)
            return gemm_latency(shape, peak, self.device, c, cold=cold)

        choice = self._choice(gemm_kernels(self.backend, dtype))
        return self._price("gemm", dtype, choice, formula, m, n, k, memo_key=cold)

    def _choice(self, choice: KernelChoice) -> KernelChoice:
        """The engine's choice, after the kernel that is timed."""
        if not self._timed_kernel:
            return choice
        return KernelChoice(tuple(dict.fromkeys((self._timed_kernel, *choice.kernels))))

    @property
    def _attention_name(self) -> str:
        return self._timed_kernel or self.backend

    def batched_gemm(
        self, batch: ArrayLike, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str = "bf16"
    ) -> KernelEstimate:
        """`batch` independent GEMMs in one call, such as the absorbed projections of MLA over heads."""
        dtype = dtype_name(dtype)
        peak = self.device.peak(dtype)

        def formula(c: Any, b: FloatArray, m: FloatArray, n: FloatArray, k: FloatArray) -> Priced:
            return gemm_latency(GemmShape(m, n, k, element_bytes(dtype), b), peak, self.device, c)

        choice = self._choice(KernelChoice(("mla_bmm",)))
        return self._price("batched_gemm", dtype, choice, formula, batch, m, n, k)

    def mla_decode(
        self,
        batch: ArrayLike,
        context: ArrayLike,
        heads: ArrayLike,
        kv_dtype: str = "bf16",
        *,
        cold: bool = True,
    ) -> KernelEstimate:
        """Absorbed MLA: one new token of each sequence over `context` latent rows, `heads` on this rank."""
        kv, cold = dtype_name(kv_dtype), cold and not self._timed_kernel
        peak = self.device.peak(decode_compute_dtype(kv, self.device.architecture))

        def formula(c: Any, b: FloatArray, s: FloatArray, h: FloatArray) -> Priced:
            return decode_latency(
                mla_decode_shape(b, s, h, element_bytes(kv)), peak, self.device, c, cold=cold
            )

        choice = self._choice(KernelChoice(("trtllm",)))
        return self._price("mla_decode", kv, choice, formula, batch, context, heads, memo_key=cold)

    def mla_prefill(
        self,
        batch: ArrayLike,
        isl: ArrayLike,
        heads: ArrayLike,
        dtype: str = "bf16",
        past: ArrayLike = 0,
        *,
        absorbed: bool = False,
        window: int = 0,
    ) -> KernelEstimate:
        """MLA over `isl` new tokens of each sequence after `past` cached ones.

        The naive form attends to expanded keys and values (their expansion is a GEMM of its own);
        `absorbed` to the latent cache, with the constants of the naive kernel. A token sees the last `window`
        tokens, or all (0).
        """
        dtype = dtype_name(dtype)
        peak = self.device.peak(dtype)

        def formula(c: Any, b: FloatArray, s: FloatArray, h: FloatArray, p: FloatArray) -> Priced:
            appends = bool(self._timed_kernel)
            shape = mla_prefill_shape(b, s, h, p, absorbed=absorbed, window=window, appends=appends)
            return prefill_latency(shape, peak, self.device, c)

        dims = (batch, isl, heads, past)
        choice, key = self._choice(KernelChoice(("trtllm",))), (absorbed, window)
        return self._price("mla_prefill", dtype, choice, formula, *dims, may_be_zero=1, memo_key=key)

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
        """Causal attention of `isl` new tokens a sequence after `past`; `window` 0 is full attention.

        Over an fp8 cache queries are quantised too, and multiplied in fp8 where the device can.
        """
        kv_bytes, over_fp8 = element_bytes(kv_dtype), dtype_name(kv_dtype) == "fp8"
        entry_dtype = "fp8" if over_fp8 else dtype_name(dtype)
        peak = self.device.peak("fp8" if over_fp8 and self.device.has_peak("fp8") else dtype)
        short = (np.asarray(window) > 0) & (np.asarray(window) <= SHORT_WINDOW)

        def formula(c: Any, *dims: FloatArray) -> Priced:
            b, s, h, kv, d, w, p = dims
            return prefill_latency(PrefillShape(b, s, h, kv, d, d, w, kv_bytes, p), peak, self.device, c)

        def priced(*, windowed: bool) -> KernelEstimate:
            choice, key = attention_kernels(self._attention_name, windowed=windowed), (kv_bytes, windowed)
            dims = (batch, isl, heads, kv_heads, head_dim, window, past)
            return self._price(
                "attention_prefill", entry_dtype, choice, formula, *dims, may_be_zero=2, memo_key=key
            )

        if np.all(short) or not np.any(short):
            return priced(windowed=bool(np.all(short)))
        return from_threshold(priced(windowed=False), priced(windowed=True), short)

    def attention_decode(
        self,
        batch: ArrayLike,
        context: ArrayLike,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
        kv_dtype: str = "bf16",
        *,
        cold: bool = True,
    ) -> KernelEstimate:
        """One new token of each sequence over `context` cached tokens, or the last `window` of them."""
        kv, cold = dtype_name(kv_dtype), cold and not self._timed_kernel
        peak = self.device.peak(decode_compute_dtype(kv, self.device.architecture))

        def formula(c: Any, b: FloatArray, s: FloatArray) -> Priced:
            one, seen = np.ones_like(b), windowed_context(s, window)
            dims = [
                dim * one for dim in (heads, kv_heads, head_dim, head_dim, 2 * head_dim * element_bytes(kv))
            ]
            return decode_latency(DecodeShape(b, seen, *dims), peak, self.device, c, cold=cold)

        windowed = 0 < window <= SHORT_WINDOW
        choice = decode_kernels(self._attention_name, grouped=heads > kv_heads, windowed=windowed)
        key = (heads, kv_heads, head_dim, window, cold)
        return self._price("attention_decode", kv, choice, formula, batch, context, memo_key=key)

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
        *,
        gated: bool = True,
    ) -> KernelEstimate:
        """Routed experts of the busiest rank.

        `tokens` are those of all ranks before dispatch; `inter` is the width of an expert before `moe_tp`
        splits it; experts that are not `gated` have one product into it instead of two. `mxfp4` weights are
        multiplied in what the generation of the device does by default; `mxfp4_bf16` and `mxfp4_mxfp8` say in
        what.

        Raises:
            InputError: the ways do not divide, or the dtype or distribution is unknown.
        """
        dtype = expert_dtype(dtype, self.device.architecture)
        stored, multiplied = product_types(dtype)
        sizes, peak = (element_bytes(stored), element_bytes(multiplied)), self.device.peak(multiplied)
        _check_divides("moe_tp", moe_tp, "inter", inter)
        _check_divides("moe_ep", moe_ep, "experts", experts)

        def formula(c: Any, t: FloatArray) -> Priced:
            load = expert_load(t, experts, topk, moe_ep, distribution)
            one = np.ones_like(t)
            widths = (hidden * one, inter / moe_tp * one, topk * one, experts / moe_ep * one)
            shape = MoeShape(load, *sizes, t, *widths, products_in=2 if gated else 1)
            return moe_latency(shape, peak, self.device, c)

        choice = self._choice(moe_kernels(self.backend, dtype, self.device.architecture))
        key = (hidden, inter, topk, experts, moe_tp, moe_ep, distribution, gated)
        estimate = self._price("moe", dtype, choice, formula, tokens, memo_key=key)
        if not choice.bulk or np.all(np.asarray(tokens) < BULK_TOKENS):
            return estimate
        bulk = self._price("moe", dtype, KernelChoice(choice.bulk), formula, tokens, memo_key=("bulk", *key))
        return from_threshold(estimate, fastest(estimate, bulk), np.asarray(tokens) >= BULK_TOKENS)

    def bandwidth_bound(self, traffic_bytes: ArrayLike, kind: str) -> KernelEstimate:
        """An operator that only moves `traffic_bytes` (read and written); kinds are `bandwidth.KINDS`."""
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise InputError(Problem(f"kind must be one of {known}", kind, suggestion=nearest(kind, KINDS)))

        def formula(c: Any, traffic: FloatArray) -> Priced:
            return bandwidth_latency(traffic, self.device, c)

        return self._price("bandwidth", "any", KernelChoice(("elementwise",)), formula, traffic_bytes)

    def recurrence(
        self, kind: str, flop: ArrayLike, traffic_bytes: ArrayLike, blocks: ArrayLike
    ) -> KernelEstimate:
        """A scan in chunks, `blocks` of which can run at the same time; kinds are `LAUNCHES`."""
        launches = LAUNCHES[kind]
        peak = self.device.peak("bf16")

        def formula(c: Any, flop: FloatArray, traffic: FloatArray, blocks: FloatArray) -> Priced:
            return recurrence_latency(RecurrenceShape(flop, traffic, blocks, launches), peak, self.device, c)

        choice = KernelChoice(("elementwise",))
        dims = (flop, traffic_bytes, blocks)
        priced = self._price("bandwidth", "any", choice, formula, *dims, memo_key=launches)
        return weakened(priced, f"{kind}: no table fitted, half the peak of a busy SM assumed")

    def collective(
        self, op: str, n_ranks: int, message_bytes: ArrayLike, *, bytes_per_token: float | None = None
    ) -> KernelEstimate:
        """A meeting of `n_ranks`; `message_bytes` is what one rank contributes.

        That is the vector of an all-reduce, the shard of an all-gather, the whole partial sum of a reduce-
        scatter, the send buffer of an all-to-all, and of an expert exchange one row a token and chosen
        expert (`bytes_per_token` = topk x hidden x bytes of an element, by default that of DeepSeek V3,
        counts the tokens).

        Raises:
            InputError: the operation is unknown.
        """
        return self._communication.collective(op, n_ranks, message_bytes, bytes_per_token)

    def expert_exchange(
        self, op: str, n_ranks: int, tokens: ArrayLike, hidden: int, topk: int, n_sm: int = 24
    ) -> KernelEstimate:
        """DeepEP's normal kernels, for prefill: a token goes once to every rank that needs it."""
        return self._communication.expert_exchange(op, n_ranks, tokens, hidden, topk, n_sm)


def _check_divides(ways_name: str, ways: int, what: str, total: int) -> None:
    if ways < 1 or total % ways:
        raise InputError(Problem(f"{ways_name} must divide {what} = {total}", str(ways)))
