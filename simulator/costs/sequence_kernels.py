"""Prices of kernels that march along sequences: scans, convolutions, indexers, sparse attention."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simulator.costs import march_shapes
from simulator.costs.estimates import FloatArray, KernelEstimate
from simulator.costs.kernel_choice import KernelChoice
from simulator.costs.marching import MarchShape, march_latency
from simulator.costs.numerics import Priced
from simulator.costs.prefill import encoder_shape, prefill_latency
from simulator.costs.pricing import Pricing, weakened

_CACHED_ROW_BYTES = 656.0  # of 576 elements in fp8 with scales and a 16-bit rope part, as FlashMLA keeps it


class SequenceKernels:
    """The families of `marching`, and attention of encoders, on one system as one engine runs them."""

    def __init__(self, pricing: Pricing, timed_kernel: str = "") -> None:
        self._pricing = pricing
        self._timed_kernel = timed_kernel
        self._device = pricing.device

    def encoder_attention(
        self, batch: ArrayLike, tokens: ArrayLike, heads: ArrayLike, head_dim: ArrayLike
    ) -> KernelEstimate:
        """Attention of every token to every token in 16 bits."""
        peak = self._device.peak("bf16")

        def formula(c: Any, *dims: FloatArray) -> Priced:
            return prefill_latency(encoder_shape(*dims), peak, self._device, c)

        dims = (batch, tokens, heads, head_dim)
        return self._pricing("encoder_attention", "bf16", self._engine("vllm"), formula, *dims)

    def delta_rule(
        self,
        batch: ArrayLike,
        new: ArrayLike,
        key_heads: ArrayLike,
        value_heads: ArrayLike,
        key_dim: ArrayLike,
        value_dim: ArrayLike,
    ) -> KernelEstimate:
        """The gated delta rule over `new` tokens a sequence: chunks of a prompt, or one step."""
        kernels = self._engine("vllm", end="_step" if np.all(np.asarray(new) <= 1) else "_chunk")
        dims = (batch, new, key_heads, value_heads, key_dim, value_dim)
        return self._march("delta_rule", "bf16", kernels, march_shapes.delta_rule_shape, *dims)

    def causal_conv(
        self, batch: ArrayLike, new: ArrayLike, channels: ArrayLike, width: ArrayLike
    ) -> KernelEstimate:
        """A short convolution over the last tokens of each channel, which the kernel before just wrote."""
        kernels = self._engine("vllm", end="_step" if np.all(np.asarray(new) <= 1) else "_chunk")
        dims = (batch, new, channels, width)
        return self._march("causal_conv", "bf16", kernels, march_shapes.conv_shape, *dims, cold=False)

    def index_scores(
        self, batch: ArrayLike, new: ArrayLike, past: ArrayLike, heads: int, width: int, dtype: str = "fp8"
    ) -> KernelEstimate:
        """Scores of `past` and new tokens by an indexer's heads, which share one key a token."""
        paged = np.all(np.asarray(new) <= 1)
        kernels = KernelChoice(("sglang_paged", "vllm_paged", "sglang") if paged else ("sglang",))

        def shape(b: FloatArray, s: FloatArray, p: FloatArray) -> MarchShape:
            one = np.ones_like(b)
            return march_shapes.index_score_shape(b, s, p, heads * one, width * one)

        key = (heads, width)
        dims = (batch, new, past)
        priced = self._march("index_scores", "fp8", kernels, shape, *dims, may_be_zero=1, memo_key=key)
        return priced if dtype == "fp8" else weakened(priced, f"an indexer in {dtype} priced as one in fp8")

    def index_choice(self, batch: ArrayLike, new: ArrayLike, past: ArrayLike, topk: int) -> KernelEstimate:
        """The best `topk` tokens of every row of scores, which the kernel before just wrote.

        Where no more tokens than that exist, all of them are taken: next to nothing.
        """

        def shape(b: FloatArray, s: FloatArray, p: FloatArray) -> MarchShape:
            return march_shapes.index_choice_shape(b, s, p, topk * np.ones_like(b))

        dims = (batch, new, past)
        kernels = KernelChoice(("flat",))
        return self._march(
            *("index_choice", "any", kernels, shape),
            *dims,
            cold=False,
            may_be_zero=1,
            memo_key=topk,
        )

    def sparse_attention(
        self, batch: ArrayLike, new: ArrayLike, past: ArrayLike, heads: ArrayLike, topk: int
    ) -> KernelEstimate:
        """Absorbed attention of several new tokens a sequence to `topk` chosen rows each."""

        def shape(b: FloatArray, s: FloatArray, h: FloatArray, p: FloatArray) -> MarchShape:
            return march_shapes.sparse_attention_shape(b, s, p, h, topk * np.ones_like(b), _CACHED_ROW_BYTES)

        dims = (batch, new, heads, past)
        kernels = KernelChoice(("sglang",))
        return self._march("sparse_attention", "bf16", kernels, shape, *dims, may_be_zero=1, memo_key=topk)

    def quantize(self, rows: ArrayLike, columns: ArrayLike) -> KernelEstimate:
        """Activations in 16 bits, just written, to 8 bits with scales.

        SGLang's benchmark takes 0.4 TB/s on an H200 and 7 us for a row, a tenth of what memory gives: it
        times a scaling in several operators, and is asked for by name only. The engine runs one kernel a
        product, as vLLM's benchmark does.
        """
        dims = (rows, columns)
        engine = "trtllm" if self._pricing.backend == "trtllm" else "vllm"
        kernels = KernelChoice((self._timed_kernel or f"{engine}_matrix",))
        return self._march("quantize", "fp8", kernels, march_shapes.quantize_shape, *dims, cold=False)

    def _engine(self, *others: str, end: str = "") -> KernelChoice:
        names = dict.fromkeys((self._pricing.backend, *others))
        return KernelChoice(tuple(f"{name}{end}" for name in names))

    def _march(
        self,
        family: str,
        dtype: str,
        kernels: KernelChoice,
        shape: Callable[..., MarchShape],
        *dims: ArrayLike,
        cold: bool = True,
        may_be_zero: int = 0,
        memo_key: Any = None,
    ) -> KernelEstimate:
        fp8 = family == "index_scores" and self._device.has_peak("fp8")
        peak = self._device.peak("fp8" if fp8 else "bf16")

        def formula(c: Any, *arrays: FloatArray) -> Priced:
            return march_latency(shape(*arrays), peak, self._device, c, cold=cold)

        key = (kernels.kernels, memo_key, cold)
        return self._pricing(family, dtype, kernels, formula, *dims, may_be_zero=may_be_zero, memo_key=key)
