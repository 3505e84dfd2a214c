"""Latencies of a step by ingredient, before a stack's constants: what `StepTable` is made of.

A graph's operators fall into five groups, found from the graphs themselves:

- token operators, in the decode and the prefill graph alike and independent of past tokens: they see every
  token of a rank, so one table over token counts serves every mixture of decodes and prefill chunks;
- shared experts, likewise, which a stack may run on a second stream beside the routed ones;
- routed experts and the collectives that feed them, which see the tokens of all attention ranks;
- the head block, which sees one row a sampled sequence;
- phase operators: attention and recurrences of decode and of prefill, each on a grid of (sequences, length).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_specs.records.evidence import Grade, worst
from model_graphs.graph import Operator, OperatorGraph, Role
from simulator.costs.bandwidth import KINDS
from simulator.costs.estimates import KernelEstimate
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator

FloatArray = NDArray[np.float64]
Bindings = Mapping[str, FloatArray | float]

#: kinds that stream bytes and do little else; a stack's `small_kernel_s` is paid once for each of them
BANDWIDTH_KINDS = frozenset(KINDS) - {"moe_route", "mamba2_scan", "gated_delta_rule"}
#: the routed half of a layer, and the collectives that gather or scatter the tokens of all ranks around it
_ROUTED_KINDS = frozenset(
    {"moe_route", "moe_experts", "all_gather", "reduce_scatter", "ep_dispatch", "ep_combine"}
)
_PREFIX_PROBE = (2048.0, 8192.0)  # new and past tokens at which a prefix is priced

#: every count while tiles and waves are coarse, then finer than a tile, then one step a wave
TOKEN_GRID = np.unique(
    np.concatenate(
        [
            np.arange(1, 257),
            np.arange(256, 513, 8),
            np.arange(512, 2049, 32),
            np.arange(2048, 8193, 256),
            np.arange(8192, 34817, 1024),
        ]
    )
).astype(np.float64)
_SEQUENCES = np.array([1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024], float)
_CONTEXT = np.array(
    [1, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768, 65536, 131072],
    float,
)
_CHUNKS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 32, 64], float)
_LENGTH = np.array(
    [
        1,
        16,
        64,
        128,
        256,
        512,
        768,
        1024,
        1536,
        2048,
        3072,
        4096,
        6144,
        8192,
        12288,
        16384,
        32768,
        65536,
        131072,
    ],
    float,
)


@dataclass
class Tally:
    """Latency by kernel family over operators; `small_kernels` counts bandwidth-bound launches."""

    kernel_s: FloatArray
    bandwidth_s: FloatArray
    network_s: FloatArray
    small_kernels: float = 0.0

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> "Tally":
        """An empty tally."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape))


@dataclass(frozen=True)
class StepComponents:
    """Ingredients of a step on one layout, device and backend; `simulator.step.build` combines them."""

    tokens: FloatArray
    local: Tally
    shared: Tally
    expert: Tally
    head: Tally
    decode_sequences: FloatArray
    decode_context: FloatArray
    decode: Tally
    prefill_chunks: FloatArray
    prefill_length: FloatArray
    prefill: Tally
    prefix_s: float
    dp: int
    second_stream_tokens: float
    log_half_width: float
    engine_log_half_width: float
    grade: Grade
    evidence: tuple[str, ...]


class ComponentBuilder:
    """Prices the operators of a rank's graphs and sorts them into groups."""

    def __init__(
        self,
        library: KernelLibrary,
        decode: OperatorGraph,
        prefill: OperatorGraph,
        dp: int,
        second_stream_tokens: float,
    ) -> None:
        self.library = library
        self.decode_graph = decode
        self.prefill_graph = prefill
        self.dp = dp
        self.second_stream_tokens = second_stream_tokens
        self.launch_s = library.launch_s
        self.estimates: list[
            tuple[str, float, float]
        ] = []  # family, seconds, log half width at a mid-size step
        self.on_engine: list[tuple[str, float, float]] = []  # those of them that an engine runs
        self.grades: list[Grade] = []
        self.evidence: set[str] = set()

    def build(self) -> StepComponents:
        """Components over the standard grids."""
        of_tokens = {(op.name, op.kind) for _, op in _body(self.decode_graph) if not _past(op)} & {
            (op.name, op.kind) for _, op in _body(self.prefill_graph)
        }
        token_ops = [(n, op) for n, op in _body(self.decode_graph) if (op.name, op.kind) in of_tokens]
        decode_ops = [(n, op) for n, op in _body(self.decode_graph) if (op.name, op.kind) not in of_tokens]
        prefill_ops = [(n, op) for n, op in _body(self.prefill_graph) if (op.name, op.kind) not in of_tokens]
        tokens = TOKEN_GRID
        at: Bindings = {"B": tokens, "S": 1.0, "T": 0.0}
        own = [o for o in token_ops if not _routed(o[1])]
        local = self._tally([o for o in own if not is_shared_expert(o[1])], at, 64)
        shared_experts = self._tally([o for o in own if is_shared_expert(o[1])], at, 64)
        routed: Bindings = {"B": tokens / self.dp, "S": 1.0, "T": 0.0}
        expert = self._tally([o for o in token_ops if _routed(o[1])], routed, 64)
        head = self._tally(list(_head(self.decode_graph)), at, 64)
        b, c = (x.ravel() for x in np.meshgrid(_SEQUENCES, _CONTEXT, indexing="ij"))
        decode = self._tally(decode_ops, {"B": b, "S": 1.0, "T": np.maximum(c - 1, 0)}, len(b) // 2)
        p, s = (x.ravel() for x in np.meshgrid(_CHUNKS, _LENGTH, indexing="ij"))
        prefill = self._tally(prefill_ops, {"B": p, "S": s, "T": 0.0}, None)
        return StepComponents(
            tokens=tokens,
            local=local,
            shared=shared_experts,
            expert=expert,
            head=head,
            decode_sequences=_SEQUENCES,
            decode_context=_CONTEXT,
            decode=_reshaped(decode, (len(_SEQUENCES), len(_CONTEXT))),
            prefill_chunks=_CHUNKS,
            prefill_length=_LENGTH,
            prefill=_reshaped(prefill, (len(_CHUNKS), len(_LENGTH))),
            prefix_s=self._prefix_s(prefill_ops),
            dp=self.dp,
            second_stream_tokens=self.second_stream_tokens,
            log_half_width=self._log_half_width(self.estimates),
            engine_log_half_width=self._log_half_width(self.on_engine),
            grade=worst(*self.grades),
            evidence=tuple(sorted(self.evidence)),
        )

    def _tally(
        self,
        operators: Iterable[tuple[int, Operator]],
        bindings: Bindings,
        sample: int | None,
    ) -> Tally:
        shape = np.broadcast_shapes(*(np.shape(v) for v in bindings.values()))
        tally = Tally.zeros(shape)
        for repeat, operator in operators:
            estimate = price_operator(self.library, operator, bindings)
            latency = np.broadcast_to(estimate.latency_s, shape) * repeat
            self._record(operator, estimate, latency, sample)
            if operator.collective is not None:
                tally.network_s = tally.network_s + latency
            elif operator.kind in BANDWIDTH_KINDS:
                tally.bandwidth_s = tally.bandwidth_s + latency - repeat * self.launch_s
                tally.small_kernels += repeat
            else:
                tally.kernel_s = tally.kernel_s + latency
        return tally

    def _record(
        self, operator: Operator, estimate: KernelEstimate, latency: FloatArray, sample: int | None
    ) -> None:
        self.grades.append(estimate.grade)
        self.evidence.add(estimate.evidence)
        if sample is not None and latency.size > sample:
            width = np.broadcast_to(estimate.log_half_width, latency.shape)
            found = (operator.kind, float(latency.flat[sample]), float(width.flat[sample]))
            self.estimates.append(found)
            if self.library.engine is not None and self.library.engine.runs(operator):
                self.on_engine.append(found)

    def _log_half_width(self, of: Iterable[tuple[str, float, float]]) -> float:
        """Half width that these give a mid-size step: errors of one family move together.

        Families are independent of each other.
        """
        families: dict[str, float] = {}
        for family, seconds, width in of:
            families[family] = families.get(family, 0.0) + seconds * width
        total = sum(seconds for _, seconds, _ in self.estimates)
        return float(np.sqrt(sum(part**2 for part in families.values())) / total) if total else 0.0

    def _prefix_s(self, operators: Iterable[tuple[int, Operator]]) -> float:
        """Seconds per (new token x past token) of a chunk that attends to its own earlier chunks.

        Attention to a bounded choice of tokens does not grow with the past; scoring all of them does.
        """
        new, past = _PREFIX_PROBE
        seconds = 0.0
        for repeat, operator in operators:
            if operator.kind in ("attention", "grouped_attention", "index_scores"):
                with_past = self._attention_s(operator, new, past)
                seconds += repeat * (with_past - self._attention_s(operator, new, 0.0)) / (new * past)
        return seconds

    def _attention_s(self, operator: Operator, new: float, past: float) -> float:
        """Seconds of the prefill kernel of an attention over `past` tokens before the new ones."""
        if operator.kind == "attention":
            heads = float(operator.inputs[0].shape[-2].evaluate({}))
            return float(self.library.mla_prefill(1, new, heads, past=past).latency_s)
        if operator.kind == "index_scores":
            heads, width = (int(operator.attrs[name]) for name in ("n_heads", "qk_dim"))
            estimate = self.library.sequences.index_scores(1, new, past, heads, width, operator.compute_dtype)
            return float(estimate.latency_s)
        heads, kv_heads, width, window = (
            int(operator.attrs[name]) for name in ("n_heads", "n_kv_heads", "qk_dim", "window")
        )
        return float(
            self.library.attention_prefill(1, new, heads, kv_heads, width, window, past=past).latency_s
        )


def _body(graph: OperatorGraph) -> Iterable[tuple[int, Operator]]:
    for block in graph.blocks:
        if block.name != "head":
            for operator in block.operators:
                yield block.repeat, operator


def _head(graph: OperatorGraph) -> Iterable[tuple[int, Operator]]:
    for block in graph.blocks:
        if block.name == "head":
            for operator in block.operators:
                yield block.repeat, operator


def _past(operator: Operator) -> bool:
    """Whether the operator's work depends on past tokens, or on how many sequences have a state."""
    has_state = any(tensor.role is Role.STATE for tensor in (*operator.inputs, *operator.outputs))
    work = (operator.flop, operator.cache_read_bytes, operator.activation_read_bytes)
    return has_state or any("T" in part.symbols for part in work)


def is_shared_expert(operator: Operator) -> bool:
    """Whether a stack may run the operator on a second stream, beside the routed experts."""
    return operator.component == "shared_expert"


def _routed(operator: Operator) -> bool:
    """Whether the operator sees the tokens of every attention rank."""
    return operator.kind in _ROUTED_KINDS or "latent" in operator.attrs


def _reshaped(tally: Tally, shape: tuple[int, int]) -> Tally:
    return Tally(
        tally.kernel_s.reshape(shape),
        tally.bandwidth_s.reshape(shape),
        tally.network_s.reshape(shape),
        tally.small_kernels,
    )
