"""Kernels of sparse latent attention: an indexer scores the cached tokens, and a query attends to the best.

Dimensions: B sequences, S new tokens, T tokens in the cache once the new ones are in it, D model width, I
heads of the indexer, X width of one, K tokens that a query attends to, H heads of the attention, L latent
width, P position width, M = L + P.

References: DeepSeek-V3.2 report (arXiv 2512.02556) section 2.1.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.attention import causal, masked_attention, mla_attrs, mla_pair_flop, pairs
from reference_impl.kernels.registry import Call, Dim, Scalar, kernel, minimum, product

NOBODY = -1  # where a query sees fewer tokens than it may choose


def _index_weights_fake(x_BSD: Tensor, weight_ID: Tensor) -> Tensor:
    return x_BSD.new_empty((*x_BSD.shape[:-1], weight_ID.shape[0]), dtype=torch.float32)


@kernel(
    "index_weights",
    fake=_index_weights_fake,
    inputs={"weight_ID": Role.WEIGHT},
    flop=lambda call: 2 * call["x_BSD"].n_elements * call["weight_ID"].shape[0],
    attrs=lambda call: {"n": int(call["weight_ID"].shape[0]), "k": int(call["weight_ID"].shape[1])},
)
def index_weights(x_BSD: Tensor, weight_ID: Tensor) -> Tensor:
    """What each head of the indexer weighs for each token [B, S, I], in fp32 like a router."""
    return F.linear(x_BSD.float(), weight_ID.float()) * weight_ID.shape[0] ** -0.5


def _index_scores_fake(q_BSIX: Tensor, weights_BSI: Tensor, keys_BTX: Tensor) -> Tensor:
    return weights_BSI.new_empty((*q_BSIX.shape[:2], keys_BTX.shape[1]))


def _index_pair_flop(call: Call) -> Dim:
    """Product of a query's heads with a key, and the weighted sum over heads."""
    n_batch, _, heads, width = call["q_BSIX"].shape
    return 2 * product(n_batch, heads, width + 1)


def _index_attrs(call: Call) -> dict[str, Scalar]:
    _, _, heads, width = call["q_BSIX"].shape
    return {"n_heads": int(heads), "qk_dim": int(width)}


@kernel(
    "index_scores",
    fake=_index_scores_fake,
    inputs={"keys_BTX": Role.CACHE},
    flop=lambda call: _index_pair_flop(call) * call["q_BSIX"].shape[1] * call["keys_BTX"].shape[1],
    rules={
        "causal_flop": lambda call: (
            _index_pair_flop(call) * pairs(call["q_BSIX"].shape[1], call["keys_BTX"].shape[1])
        )
    },
    attrs=_index_attrs,
)
def index_scores(q_BSIX: Tensor, weights_BSI: Tensor, keys_BTX: Tensor) -> Tensor:
    """Score of every cached token for every new one [B, S, T] in fp32, minus infinity for later tokens.

    Heads count only where their product with the key is positive.
    """
    products = torch.einsum("bsix,btx->bsit", q_BSIX.float(), keys_BTX.float()) * q_BSIX.shape[3] ** -0.5
    return causal(torch.einsum("bsi,bsit->bst", weights_BSI, products.relu())).contiguous()


def _topk_fake(scores_BST: Tensor, topk: int) -> Tensor:
    return scores_BST.new_empty((*scores_BST.shape[:2], topk), dtype=torch.int32)


@kernel(
    "topk",
    fake=_topk_fake,
    outputs=(Role.INDEX,),
    attrs=lambda call: {"topk": int(call.scalars["topk"])},
)
def topk(scores_BST: Tensor, topk: int) -> Tensor:
    """Places in the cache of each query's best tokens [B, S, K]; `NOBODY` where it sees fewer."""
    kept = min(topk, scores_BST.shape[2])
    best, places_BSK = scores_BST.topk(kept, -1)
    places_BSK = places_BSK.masked_fill(best == float("-inf"), NOBODY)
    return F.pad(places_BSK, (0, topk - kept), value=NOBODY).to(torch.int32)


def _sparse_fake(
    q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, places_BSK: Tensor, scale: float
) -> Tensor:
    return q_BSHL.new_empty(q_BSHL.shape)


def _seen(call: Call) -> tuple[Dim, Dim, int]:
    """New tokens, tokens in the cache, and how many of them a query attends to at most."""
    return call["q_BSHL"].shape[1], call["cache_BTM"].shape[1], int(call["places_BSK"].shape[2])


def _sparse_flop(call: Call) -> Dim:
    n_new, n_total, topk = _seen(call)
    return mla_pair_flop(call) * n_new * minimum(n_total, topk)


def _sparse_causal_flop(call: Call) -> Dim:
    """A choice of K tokens costs what a window of K does."""
    n_new, n_total, topk = _seen(call)
    return mla_pair_flop(call) * pairs(n_new, n_total, topk)


def _sparse_read_bytes(call: Call) -> Dim:
    """Rows that the queries choose, at most all: which of them coincide is known at run time only."""
    n_new, n_total, topk = _seen(call)
    cache = call["cache_BTM"]
    return product(cache.shape[0], minimum(n_total, n_new * topk), cache.shape[2], cache.element_bytes)


@kernel(
    "sparse_mla_attention",
    fake=_sparse_fake,
    inputs={"cache_BTM": Role.CACHE, "places_BSK": Role.INDEX},
    flop=_sparse_flop,
    rules={"causal_flop": _sparse_causal_flop, "cache_read_bytes": _sparse_read_bytes},
    attrs=lambda call: {**mla_attrs(call), "topk": _seen(call)[2]},
)
def sparse_mla_attention(
    q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, places_BSK: Tensor, scale: float
) -> Tensor:
    """Absorbed attention [B, S, H, L] of each query to the chosen rows of the latent cache alone.

    Computed here on all rows under a mask that the choice makes; the work counts the chosen ones.
    """
    n_batch, n_total, _ = cache_BTM.shape
    chosen = torch.zeros(n_batch, q_BSHL.shape[1], n_total + 1, dtype=torch.bool, device=q_BSHL.device)
    places = places_BSK.long().where(places_BSK != NOBODY, n_total)
    chosen_BST = chosen.scatter_(-1, places, True)[..., :n_total]
    return masked_attention(q_BSHL, q_BSHP, cache_BTM, scale, ~chosen_BST.unsqueeze(1))
