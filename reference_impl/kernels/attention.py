"""Kernels of attention and of its cache: grouped, and latent in its naive and its absorbed form.

Dimensions: B sequences, S new tokens, T tokens in the cache once the new ones are in it, H heads, C content
width of a query or key (`qk_nope_head_dim`), P its position width (`qk_rope_head_dim`), V width of a value, L
latent width (`kv_lora_rank`). Query i of S sees the first T - S + i + 1 tokens, under a window the last of
them. Grouped attention has K heads of keys and values, K | H, cached side by side in a width M = C + V.
"""

import torch
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.registry import Call, Dim, Scalar, kernel, maximum, minimum, product


def _kv_append_fake(past: Tensor | None, first: Tensor, second: Tensor | None = None) -> Tensor:
    n_batch, n_new, *heads, width = first.shape
    n_past = past.shape[1] if past is not None else 0
    beside = second.shape[-1] if second is not None else 0
    return first.new_empty((n_batch, n_past + n_new, *heads, width + beside))


def _appended_bytes(call: Call) -> Dim:
    return call.bytes_of(Role.ACTIVATION)


@kernel(
    "kv_append",
    fake=_kv_append_fake,
    inputs={"past": Role.CACHE},
    outputs=(Role.CACHE,),
    rules={"cache_read_bytes": lambda call: 0, "cache_write_bytes": _appended_bytes},
)
def kv_append(past: Tensor | None, first: Tensor, second: Tensor | None = None) -> Tensor:
    """The cache with the new tokens' rows, both parts side by side, at its end.

    The parts are latents [B, S, L] and rotated keys [B, S, P], or keys and values [B, S, K, C] of every head,
    or an indexer's keys alone.
    Functional here; a serving engine writes the new rows in place, which is what the work counts.
    """
    new = first.clone() if second is None else torch.cat([first, second], -1)
    return new if past is None else torch.cat([past, new], 1)


def _absorb_q_fake(q_BSHC: Tensor, w_kv_b: Tensor, v_dim: int) -> Tensor:
    return q_BSHC.new_empty((*q_BSHC.shape[:-1], w_kv_b.shape[1]))


def _half_bytes(call: Call, *sizes: Dim) -> Dim:
    """The keys' or the values' part of kv_b: heads x width x latent."""
    return product(*sizes) * call["w_kv_b"].element_bytes


@kernel(
    "mla_absorb_q",
    fake=_absorb_q_fake,
    inputs={"w_kv_b": Role.WEIGHT},
    flop=lambda call: 2 * call["q_BSHC"].n_elements * call.outputs[0].shape[3],
    rules={
        "weight_bytes": lambda call: _half_bytes(call, *call["q_BSHC"].shape[2:], call.outputs[0].shape[3])
    },
)
def mla_absorb_q(q_BSHC: Tensor, w_kv_b: Tensor, v_dim: int) -> Tensor:
    """Queries in latent space [B, S, H, L]: each head's query times the keys' half of kv_b."""
    w_HCL = w_kv_b.unflatten(0, (q_BSHC.shape[2], -1))[:, :-v_dim]
    return torch.einsum("bshc,hcl->bshl", q_BSHC, w_HCL).contiguous()


def _absorb_o_fake(o_BSHL: Tensor, w_kv_b: Tensor, v_dim: int) -> Tensor:
    return o_BSHL.new_empty((*o_BSHL.shape[:-1], v_dim))


@kernel(
    "mla_absorb_o",
    fake=_absorb_o_fake,
    inputs={"w_kv_b": Role.WEIGHT},
    flop=lambda call: 2 * call["o_BSHL"].n_elements * call.outputs[0].shape[3],
    rules={
        "weight_bytes": lambda call: _half_bytes(call, *call.outputs[0].shape[2:], call["o_BSHL"].shape[3])
    },
)
def mla_absorb_o(o_BSHL: Tensor, w_kv_b: Tensor, v_dim: int) -> Tensor:
    """Values [B, S, H, V] from latent outputs: the values' half of kv_b."""
    w_HVL = w_kv_b.unflatten(0, (o_BSHL.shape[2], -1))[:, -v_dim:]
    return torch.einsum("bshl,hvl->bshv", o_BSHL, w_HVL).contiguous()


def causal(scores: Tensor, window: int = 0, *, chunked: bool = False) -> Tensor:
    """Scores [.., S, T], minus infinity where a query does not look; the last query sees the last key."""
    n_new, n_total = scores.shape[-2:]
    seen_ST = torch.ones(n_new, n_total, dtype=torch.bool, device=scores.device).tril(n_total - n_new)
    if chunked:
        chunk_T = torch.arange(n_total, device=scores.device) // window
        seen_ST = seen_ST & (chunk_T[n_total - n_new :, None] == chunk_T)
    elif window:
        seen_ST = seen_ST.triu(n_total - n_new - window + 1)
    return scores.masked_fill(~seen_ST, float("-inf"))


def causal_softmax(scores_BHST: Tensor) -> Tensor:
    """Causal probabilities in fp32."""
    return causal(scores_BHST).float().softmax(-1).to(scores_BHST.dtype)


def pairs(n_new: Dim, n_total: Dim, window: int = 0, *, chunked: bool = False) -> Dim:
    """Query-key pairs that the mask keeps: past tokens each and the triangle of the new ones, or the window.

    Of the new tokens, as many as the window reaches past the cached ones still see everything before them.
    """
    n_past = n_total - n_new
    if chunked:
        return _pairs_in_chunks(n_total, window) - _pairs_in_chunks(n_past, window)
    if not window:
        return n_new * n_past + (n_new * (n_new + 1)) // 2
    growing = minimum(maximum(window - n_past, 0), n_new)
    return growing * n_past + (growing * (growing + 1)) // 2 + (n_new - growing) * window


def _pairs_in_chunks(n_tokens: Dim, chunk: int) -> Dim:
    """Pairs among the first tokens: a triangle a whole chunk, and a smaller one of what is left."""
    whole = n_tokens // chunk
    left = n_tokens - chunk * whole
    return whole * (chunk * (chunk + 1) // 2) + (left * (left + 1)) // 2


def _mla_attention_fake(q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, scale: float) -> Tensor:
    return q_BSHL.new_empty(q_BSHL.shape)


def mla_pair_flop(call: Call) -> Dim:
    """Scores over L + P, values over L."""
    n_batch, _, heads, latent = call["q_BSHL"].shape
    return 2 * product(n_batch, heads, 2 * latent + call["q_BSHP"].shape[3])


def mla_attrs(call: Call) -> dict[str, Scalar]:
    """Heads and widths of absorbed attention."""
    _, _, heads, latent = call["q_BSHL"].shape
    return {"n_heads": int(heads), "kv_lora_rank": int(latent), "rope_dim": int(call["q_BSHP"].shape[3])}


@kernel(
    "mla_attention",
    fake=_mla_attention_fake,
    inputs={"cache_BTM": Role.CACHE},
    flop=lambda call: mla_pair_flop(call) * call["q_BSHL"].shape[1] * call["cache_BTM"].shape[1],
    rules={
        "causal_flop": lambda call: (
            mla_pair_flop(call) * pairs(call["q_BSHL"].shape[1], call["cache_BTM"].shape[1])
        )
    },
    attrs=mla_attrs,
)
def mla_attention(q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, scale: float) -> Tensor:
    """Absorbed attention: every head attends to one latent cache; the output stays latent [B, S, H, L]."""
    return masked_attention(q_BSHL, q_BSHP, cache_BTM, scale)


def masked_attention(
    q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, scale: float, hidden: Tensor | None = None
) -> Tensor:
    """Causal attention of latent queries to the latent cache; no query sees what is `hidden` [B, 1, S, T]."""
    latent_BTL, rope_BTP = cache_BTM.split([q_BSHL.shape[3], q_BSHP.shape[3]], -1)
    scores = torch.einsum("bshl,btl->bhst", q_BSHL, latent_BTL)
    scores = (scores + torch.einsum("bshp,btp->bhst", q_BSHP, rope_BTP)) * scale
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    return torch.einsum("bhst,btl->bshl", causal_softmax(scores), latent_BTL).contiguous()


def _attention_fake(
    q_BSHC: Tensor, q_BSHP: Tensor, k_BTHC: Tensor, k_BTP: Tensor, v_BTHV: Tensor, scale: float
) -> Tensor:
    return q_BSHC.new_empty((*q_BSHC.shape[:-1], v_BTHV.shape[-1]))


def _attention_pair_flop(call: Call) -> Dim:
    """Scores over C + P, values over V."""
    n_batch, _, heads, content = call["q_BSHC"].shape
    return 2 * product(n_batch, heads, content + call["q_BSHP"].shape[3] + call["v_BTHV"].shape[3])


def _attention_attrs(call: Call) -> dict[str, Scalar]:
    _, _, heads, content = call["q_BSHC"].shape
    return {
        "n_heads": int(heads),
        "qk_dim": int(content + call["q_BSHP"].shape[3]),
        "v_dim": int(call["v_BTHV"].shape[3]),
    }


@kernel(
    "attention",
    fake=_attention_fake,
    flop=lambda call: _attention_pair_flop(call) * call["q_BSHC"].shape[1] * call["k_BTHC"].shape[1],
    rules={
        "causal_flop": lambda call: (
            _attention_pair_flop(call) * pairs(call["q_BSHC"].shape[1], call["k_BTHC"].shape[1])
        )
    },
    attrs=_attention_attrs,
)
def attention(
    q_BSHC: Tensor, q_BSHP: Tensor, k_BTHC: Tensor, k_BTP: Tensor, v_BTHV: Tensor, scale: float
) -> Tensor:
    """Naive multi-head attention [B, S, H, V]; the position part of the key is one for all heads."""
    scores = torch.einsum("bshc,bthc->bhst", q_BSHC, k_BTHC)
    scores = (scores + torch.einsum("bshp,btp->bhst", q_BSHP, k_BTP)) * scale
    return torch.einsum("bhst,bthv->bshv", causal_softmax(scores), v_BTHV).contiguous()


def _grouped_fake(
    q_BSHC: Tensor,
    cache_BTKM: Tensor,
    scale: float,
    window: int,
    sinks_H: Tensor | None = None,
    slopes_H: Tensor | None = None,
    chunked: bool = False,
) -> Tensor:
    return q_BSHC.new_empty((*q_BSHC.shape[:-1], cache_BTKM.shape[3] - q_BSHC.shape[3]))


def _grouped_pair_flop(call: Call) -> Dim:
    """Scores over C, values over V."""
    n_batch, _, heads, _ = call["q_BSHC"].shape
    return 2 * product(n_batch, heads, call["cache_BTKM"].shape[3])


def _chunked(call: Call) -> bool:
    return bool(call.scalars.get("chunked", False))


def _grouped_causal_flop(call: Call) -> Dim:
    n_new, n_total = call["q_BSHC"].shape[1], call["cache_BTKM"].shape[1]
    seen = pairs(n_new, n_total, int(call.scalars["window"]), chunked=_chunked(call))
    return _grouped_pair_flop(call) * seen


def _grouped_read_bytes(call: Call) -> Dim:
    """Rows of the cache that some new token sees."""
    cache, window = call["cache_BTKM"], int(call.scalars["window"])
    n_batch, n_total, *rest = cache.shape
    n_new = call["q_BSHC"].shape[1]
    if _chunked(call):
        seen = n_total - (n_total - n_new) // window * window
    else:
        seen = minimum(n_total, n_new + window - 1) if window else n_total
    return product(n_batch, seen, *rest, cache.element_bytes)


def _grouped_attrs(call: Call) -> dict[str, Scalar]:
    _, _, heads, width = call["q_BSHC"].shape
    kv_heads, both = call["cache_BTKM"].shape[2:]
    attrs: dict[str, Scalar] = {
        "n_heads": int(heads),
        "n_kv_heads": int(kv_heads),
        "qk_dim": int(width),
        "v_dim": int(both) - int(width),
        "window": int(call.scalars["window"]),
    }
    return attrs | {"chunked": 1} if _chunked(call) else attrs


@kernel(
    "grouped_attention",
    fake=_grouped_fake,
    inputs={"cache_BTKM": Role.CACHE, "sinks_H": Role.WEIGHT, "slopes_H": Role.WEIGHT},
    flop=lambda call: _grouped_pair_flop(call) * call["q_BSHC"].shape[1] * call["cache_BTKM"].shape[1],
    rules={"causal_flop": _grouped_causal_flop, "cache_read_bytes": _grouped_read_bytes},
    attrs=_grouped_attrs,
)
def grouped_attention(
    q_BSHC: Tensor,
    cache_BTKM: Tensor,
    scale: float,
    window: int,
    sinks_H: Tensor | None = None,
    slopes_H: Tensor | None = None,
    chunked: bool = False,
) -> Tensor:
    """Attention [B, S, H, V] of H query heads to K heads of cached keys and values, H / K to each.

    `window` 0 sees everything; where it is `chunked`, a token sees those of its own chunk of that size.
    `sinks_H` are scores that take part in the softmax and have no value; `slopes_H` times the position of a
    key are added to the scores of its head.
    """
    n_batch, n_new, heads, width = q_BSHC.shape
    k_BTKC, v_BTKV = cache_BTKM.split([width, cache_BTKM.shape[3] - width], -1)
    q_BSKGC = q_BSHC.unflatten(2, (cache_BTKM.shape[2], -1))
    scores = torch.einsum("bskgc,btkc->bkgst", q_BSKGC, k_BTKC).flatten(1, 2) * scale
    if slopes_H is not None:
        places_T = torch.arange(cache_BTKM.shape[1], device=scores.device)
        scores = scores + (slopes_H[:, None] * places_T)[:, None]
    masked = causal(scores, window, chunked=chunked).float()
    if sinks_H is not None:
        sinks = sinks_H.float().view(1, heads, 1, 1).expand(n_batch, -1, n_new, -1)
        masked = torch.cat([masked, sinks], -1)
    weights = masked.softmax(-1)[..., : cache_BTKM.shape[1]].to(q_BSHC.dtype)
    grouped = weights.unflatten(1, (cache_BTKM.shape[2], -1))
    return torch.einsum("bkgst,btkv->bskgv", grouped, v_BTKV).flatten(2, 3).contiguous()


def _bidirectional_fake(q_BSHC: Tensor, k_BSHC: Tensor, v_BSHC: Tensor, scale: float) -> Tensor:
    return q_BSHC.new_empty(q_BSHC.shape)


def _bidirectional_flop(call: Call) -> Dim:
    """Scores and values of every pair of tokens."""
    n_batch, n_tokens, heads, width = call["q_BSHC"].shape
    return 4 * product(n_batch, n_tokens, n_tokens, heads, width)


def _bidirectional_attrs(call: Call) -> dict[str, Scalar]:
    _, _, heads, width = call["q_BSHC"].shape
    return {"n_heads": int(heads), "qk_dim": int(width), "v_dim": int(width)}


@kernel(
    "bidirectional_attention",
    fake=_bidirectional_fake,
    flop=_bidirectional_flop,
    attrs=_bidirectional_attrs,
)
def bidirectional_attention(q_BSHC: Tensor, k_BSHC: Tensor, v_BSHC: Tensor, scale: float) -> Tensor:
    """Multi-head attention [B, S, H, C] of every token to all tokens."""
    scores = torch.einsum("bshc,bthc->bhst", q_BSHC, k_BSHC) * scale
    weights = scores.float().softmax(-1).to(q_BSHC.dtype)
    return torch.einsum("bhst,bthc->bshc", weights, v_BSHC).contiguous()
