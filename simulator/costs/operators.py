"""From an operator of a graph to the kernel family that prices it: shapes become the family's dimensions.

A graph is symbolic; `bindings` gives its symbols numbers or arrays that broadcast (`B` sequences, `S` new
tokens and `T` past tokens a sequence). Operators without a compute kernel of their own are priced by the
bytes they move.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.evidence import worst
from model_graphs.graph import Operator, Role, Tensor
from simulator.costs.bandwidth import KINDS
from simulator.costs.collectives import EXCHANGE_OPS
from simulator.costs.communication import V3_ROUTED_ROW
from simulator.costs.estimates import FloatArray, KernelEstimate
from simulator.costs.expert_load import FITTED_LAW, ExpertLoad, ends_of_law, expert_load
from simulator.costs.figures import element_bytes
from simulator.costs.library import KernelLibrary
from simulator.costs.prefill import MLA_QUERY_DIM, MLA_VALUE_DIM
from simulator.costs.pricing import weakened

Bindings = Mapping[str, Any]
Pricer = Callable[[KernelLibrary, Operator, Bindings], KernelEstimate]

COLLECTIVE_KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "ep_dispatch", "ep_combine")


def price_operator(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """Latency of one operator on one rank, for every combination of the bindings.

    What an engine of the device runs is priced by its description, all else by kernels of the digital unit.

    Raises:
        InputError: the kind has no price, or a symbol of the shapes has no value.
    """
    if operator.collective is not None:
        return _collective(library, operator, bindings)
    if library.engine is not None and library.engine.runs(operator):
        return library.engine.price(operator, bindings)
    pricer = _PRICERS.get(operator.kind)
    if pricer is not None:
        return pricer(library, operator, bindings)
    if operator.kind in KINDS:
        return library.bandwidth_bound(traffic_bytes(operator, bindings), operator.kind)
    known = sorted({*_PRICERS, *KINDS, *COLLECTIVE_KINDS})
    raise InputError(
        Problem(
            f"operator kind must be one of {', '.join(known)}",
            operator.kind,
            path=operator.name,
            suggestion=nearest(operator.kind, known),
        )
    )


def traffic_bytes(operator: Operator, bindings: Bindings) -> FloatArray:
    """Bytes that an operator moves; an embedding reads the rows it writes, not its table."""
    written = operator.activation_write_bytes.evaluate(bindings) + operator.cache_write_bytes.evaluate(
        bindings
    )
    if operator.kind == "embedding":
        return np.asarray(2 * written)
    read = operator.activation_read_bytes.evaluate(bindings) + operator.cache_read_bytes.evaluate(bindings)
    return np.asarray(read + written + operator.weight_bytes.evaluate(bindings))


def _dims(tensor: Tensor, bindings: Bindings) -> list[FloatArray]:
    return [dim.evaluate(bindings) for dim in tensor.shape]


def _first(operator: Operator, role: Role) -> Tensor:
    """The first input with this role.

    Raises:
        InputError: the operator has none.
    """
    for tensor in operator.inputs:
        if tensor.role is role:
            return tensor
    raise InputError(
        Problem(f"operator must have an input that is a {role}", operator.kind, path=operator.name)
    )


def _rows(dims: list[FloatArray]) -> FloatArray:
    return np.asarray(prod(dims, start=np.float64(1.0)))


def _attribute(operator: Operator, name: str) -> int:
    if name not in operator.attrs:
        raise InputError(
            Problem(f"operator must carry the attribute {name}", operator.kind, path=operator.name)
        )
    return int(operator.attrs[name])


def _linear(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    *leading, k = _dims(_first(operator, Role.ACTIVATION), bindings)
    n = _dims(operator.outputs[0], bindings)[-1]
    return library.gemm(_rows(leading), n, k, _product_dtype(operator))


def _product_dtype(operator: Operator) -> str:
    """What the product is computed in; integer weights that kernels expand to 16 bits say so too."""
    stored = [tensor.dtype for tensor in operator.inputs if tensor.role is Role.WEIGHT]
    expanded = {"int8_g128": "int8_bf16", "int4_g128": "int4_bf16"}
    if operator.compute_dtype == "bf16" and stored and stored[0] in expanded:
        return expanded[stored[0]]
    return operator.compute_dtype


def _absorb(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    *leading, heads, k = _dims(_first(operator, Role.ACTIVATION), bindings)
    n = _dims(operator.outputs[0], bindings)[-1]
    return library.batched_gemm(heads, _rows(leading), n, k, operator.compute_dtype)


def _past_matters(operator: Operator) -> bool:
    return any("T" in dim.symbols for tensor in operator.inputs for dim in tensor.shape)


def _past(operator: Operator, bindings: Bindings) -> Any:
    """Past tokens, where the operator's operands depend on them."""
    return bindings["T"] if _past_matters(operator) else 0


def _mla_attention(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """The absorbed form: the decode kernel, or the prefill kernel for several new tokens a sequence."""
    heads = _dims(_first(operator, Role.ACTIVATION), bindings)[-2]
    new, past = np.asarray(bindings.get("S", 1), np.float64), _past(operator, bindings)
    if np.any(new > 1):
        return library.mla_prefill(bindings["B"], new, heads, operator.compute_dtype, past, absorbed=True)
    return library.mla_decode(bindings["B"], past + new, heads, _first(operator, Role.CACHE).dtype)


def _attention(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """Queries come first and values last; `qk_dim` joins the content and position parts of the keys."""
    heads, width = (int(dim) for dim in _dims(operator.inputs[0], bindings)[-2:])
    value_dim = int(_dims(operator.inputs[-1], bindings)[-1])
    query_dim = int(operator.attrs.get("qk_dim", width))
    batch, new, past = bindings["B"], bindings.get("S", 1), _past(operator, bindings)
    dtype = operator.compute_dtype
    if (query_dim, value_dim) == (MLA_QUERY_DIM, MLA_VALUE_DIM):
        return library.mla_prefill(batch, new, heads, dtype, past)
    return library.attention_prefill(batch, new, heads, heads, query_dim, 0, dtype, dtype, past)


def _grouped_attention(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """The decode kernel for one new token a sequence, else the prefill kernel; both read the cache."""
    cache = _first(operator, Role.CACHE)
    heads, kv_heads = _attribute(operator, "n_heads"), _attribute(operator, "n_kv_heads")
    width, window = _attribute(operator, "qk_dim"), _attribute(operator, "window")
    batch, new, past = bindings["B"], bindings.get("S", 1), _past(operator, bindings)
    if "chunked" in operator.attrs:
        batch, new, past, window = _one_sequence_a_chunk(operator, bindings, window)
    if _past_matters(operator) and np.all(np.asarray(new) == 1):
        context = np.asarray(past) + 1
        return library.attention_decode(batch, context, heads, kv_heads, width, window, cache.dtype)
    dtype = operator.compute_dtype
    return library.attention_prefill(batch, new, heads, kv_heads, width, window, dtype, cache.dtype, past)


def _recurrence(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """One step of every sequence's state, or its new tokens in chunks."""
    traffic, new = traffic_bytes(operator, bindings), np.asarray(bindings.get("S", 1), np.float64)
    if np.all(new <= 1):
        return library.bandwidth_bound(traffic, operator.kind)
    blocks = np.asarray(bindings["B"]) * _attribute(operator, "n_heads")
    blocks = blocks * np.ceil(new / _attribute(operator, "chunk"))
    return library.recurrence(operator.kind, operator.flop.evaluate(bindings), traffic, blocks)


def _delta_rule(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """Chunks of a prompt one after another, or one step."""
    names = ("n_kv_heads", "n_heads", "qk_dim", "v_dim")
    dims = (_attribute(operator, name) for name in names)
    return library.sequences.delta_rule(bindings["B"], bindings.get("S", 1), *dims)


def _causal_conv(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    channels = _dims(_first(operator, Role.ACTIVATION), bindings)[-1]
    width = _dims(_first(operator, Role.WEIGHT), bindings)[-1]
    return library.sequences.causal_conv(bindings["B"], bindings.get("S", 1), channels, width)


def _quantize(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """Rows to 8 or 4 bits; narrower ones are taken to cost what 8 bits do."""
    *leading, columns = _dims(_first(operator, Role.ACTIVATION), bindings)
    return library.sequences.quantize(_rows(leading), columns)


def _one_sequence_a_chunk(operator: Operator, bindings: Bindings, chunk: int) -> tuple[Any, Any, Any, int]:
    """Sequences, new and past tokens of each, and no window: every chunk of positions by itself.

    A prompt over several chunks becomes equal sequences with as many query-key pairs in all.
    """
    batch = bindings["B"]
    new, past = (np.asarray(x, np.float64) for x in (bindings.get("S", 1), _past(operator, bindings)))
    offset = past % chunk
    pieces = np.ceil((offset + new) / chunk)
    seen = operator.causal_flop.evaluate(bindings) / operator.flop.evaluate(bindings) * (past + new)
    each = new / pieces
    before = np.where(pieces > 1, np.maximum(seen - (each + 1) / 2, 0), offset)
    return batch * pieces, each, before, 0


def _bidirectional(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    batch, tokens, heads, width = _dims(_first(operator, Role.ACTIVATION), bindings)
    return library.sequences.encoder_attention(batch, tokens, heads, width)


def _index_weights(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """A narrow GEMM in 16 bits."""
    *leading, k = _dims(_first(operator, Role.ACTIVATION), bindings)
    return library.gemm(_rows(leading), _dims(operator.outputs[0], bindings)[-1], k)


def _index_scores(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    heads, width = _attribute(operator, "n_heads"), _attribute(operator, "qk_dim")
    new, past = np.asarray(bindings.get("S", 1), np.float64), _past(operator, bindings)
    dtype = operator.compute_dtype
    return library.sequences.index_scores(bindings["B"], new, past, heads, width, dtype)


def _topk(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """The best tokens for each new one."""
    new, past = np.asarray(bindings.get("S", 1), np.float64), _past(operator, bindings)
    return library.sequences.index_choice(bindings["B"], new, past, _attribute(operator, "topk"))


def _sparse_attention(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """Absorbed attention to as many tokens as are chosen; one new token each as if they lay side by side."""
    heads, topk = _dims(_first(operator, Role.ACTIVATION), bindings)[-2], _attribute(operator, "topk")
    new, past = np.asarray(bindings.get("S", 1), np.float64), _past(operator, bindings)
    if np.any(new > 1):
        return library.sequences.sparse_attention(bindings["B"], new, past, heads, topk)
    seen = np.minimum(past + new, topk)
    estimate = library.mla_decode(bindings["B"], seen, heads, _first(operator, Role.CACHE).dtype)
    return weakened(estimate, "chosen rows priced as if they lay side by side")


def _moe_experts(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """Routed experts of the busiest rank; a layout leaves local widths and global expert counts.

    Where the exponent of the load is a fitted one, its interval widens the estimate's.
    """
    law = law_of(operator)
    estimate, *ends = (_under(law, library, operator, bindings) for law in (law, *ends_of_law(law)))
    if not ends:
        return estimate
    low, high = (end.latency_s for end in ends)
    spread = np.abs(np.log(high / low)) / 2
    return replace(estimate, log_half_width=np.hypot(estimate.log_half_width, spread))


def _under(law: str, library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """Routed experts whose rows follow the law."""
    n_experts = _attribute(operator, "n_experts")
    return library.moe(
        tokens_of_all_ranks(operator, bindings),
        int(_dims(_first(operator, Role.ACTIVATION), bindings)[-1]),
        _attribute(operator, "inter"),
        _attribute(operator, "topk"),
        n_experts,
        1,
        expert_ranks(operator),
        _expert_dtype(operator),
        law,
        gated="ungated" not in operator.attrs,
    )


def law_of(operator: Operator) -> str:
    """The law that rows of the experts follow: what the deployment says, or the fitted one."""
    return str(operator.attrs.get("distribution", FITTED_LAW))


def load_of(operator: Operator, bindings: Bindings) -> ExpertLoad:
    """Load of the busiest rank, for every combination of the bindings in a row."""
    tokens = np.asarray(tokens_of_all_ranks(operator, bindings), np.float64).ravel()
    n_experts, topk = _attribute(operator, "n_experts"), _attribute(operator, "topk")
    return expert_load(tokens, n_experts, topk, expert_ranks(operator), law_of(operator))


def _expert_dtype(operator: Operator) -> str:
    """What the product is computed in; of mxfp4 weights, which kernels read as they are, what they are."""
    stored = [t.dtype.partition(":")[0] for t in operator.inputs if t.role is Role.WEIGHT]
    return "mxfp4" if "mxfp4" in stored else operator.compute_dtype


def expert_ranks(operator: Operator) -> int:
    """Ranks over which whole experts are spread."""
    n_experts = _attribute(operator, "n_experts")
    return n_experts // int(operator.attrs.get("n_local_experts", n_experts))


def tokens_of_all_ranks(operator: Operator, bindings: Bindings) -> Any:
    """Tokens before dispatch: bound by name, or from the rows at hand (after a dispatch one rank's share)."""
    rows = _first(operator, Role.ACTIVATION).shape[:-1]
    received = any("R" in dim.symbols for dim in rows)
    if not received and "tokens_of_all_ranks" in bindings:
        return bindings["tokens_of_all_ranks"]
    ranks = expert_ranks(operator) if received else 1
    return _rows([dim.evaluate(bindings) for dim in rows]) * ranks


def _moe_route(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    """The router GEMM and one kernel that scores, groups and selects."""
    *leading, k = _dims(_first(operator, Role.ACTIVATION), bindings)
    n_experts = _dims(_first(operator, Role.WEIGHT), bindings)[0]
    rows = _rows(leading)
    scores = library.gemm(rows, n_experts, k, "bf16")
    return in_sequence(scores, library.bandwidth_bound(4 * rows * n_experts, "moe_route"))


def _collective(library: KernelLibrary, operator: Operator, bindings: Bindings) -> KernelEstimate:
    meeting = operator.collective
    assert meeting is not None
    message = meeting.message_bytes.evaluate(bindings)
    if meeting.op not in EXCHANGE_OPS:
        return library.collective(meeting.op, meeting.n_ranks, message)
    rows = _first(operator, Role.ACTIVATION)
    hidden, topk = rows.shape[-1].evaluate(bindings), float(operator.attrs.get("topk", V3_ROUTED_ROW[1]))
    per_token = float(hidden) * topk * element_bytes(rows.dtype)
    return library.collective(meeting.op, meeting.n_ranks, message, bytes_per_token=per_token)


def in_sequence(*estimates: KernelEstimate) -> KernelEstimate:
    """Kernels that run one after the other, known as badly as the worst; the longest names the bound."""
    latencies = np.stack(np.broadcast_arrays(*(e.latency_s for e in estimates)))
    bounds = np.stack(np.broadcast_arrays(*(e.bound for e in estimates)))
    longest = np.argmax(latencies, axis=0)
    return KernelEstimate(
        latencies.sum(axis=0),
        np.take_along_axis(bounds, longest[None], axis=0)[0],
        np.maximum.reduce([np.broadcast_to(e.log_half_width, latencies.shape[1:]) for e in estimates]),
        worst(*(e.grade for e in estimates)),
        "; ".join(dict.fromkeys(e.evidence for e in estimates)),
    )


_PRICERS: dict[str, Pricer] = {
    "linear": _linear,
    "mla_absorb_q": _absorb,
    "mla_absorb_o": _absorb,
    "mla_attention": _mla_attention,
    "attention": _attention,
    "grouped_attention": _grouped_attention,
    "mamba2_scan": _recurrence,
    "gated_delta_rule": _delta_rule,
    "causal_conv1d": _causal_conv,
    "quantize": _quantize,
    "bidirectional_attention": _bidirectional,
    "index_weights": _index_weights,
    "index_scores": _index_scores,
    "topk": _topk,
    "sparse_mla_attention": _sparse_attention,
    "moe_experts": _moe_experts,
    "moe_route": _moe_route,
}
