"""Latent attention whose values are summed over blocks of keys in few bits: what grows with context.

Scores and softmax are those of the plain kernels; only the adding of block sums of weighted values is changed
(see `accumulation`). The rescaling of online softmax is not modelled.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.accumulation import BLOCK, summed
from reference_impl.kernels.attention import causal_softmax
from reference_impl.kernels.registry import KERNELS, Call, Scalar, kernel

_NAIVE, _ABSORBED = KERNELS["attention"], KERNELS["mla_attention"]


def _accumulation(call: Call) -> dict[str, Scalar]:
    return {"accumulation": call.scalars["accumulation"]}


def _naive_fake(
    q_BSHC: Tensor,
    q_BSHP: Tensor,
    k_BTHC: Tensor,
    k_BTP: Tensor,
    v_BTHV: Tensor,
    scale: float,
    accumulation: str,
) -> Tensor:
    return q_BSHC.new_empty((*q_BSHC.shape[:-1], v_BTHV.shape[-1]))


@kernel(
    "attention",
    name="summed_attention",
    fake=_naive_fake,
    flop=_NAIVE.flop,
    rules=_NAIVE.rules,
    attrs=lambda call: _NAIVE.attrs(call) | _accumulation(call),
)
def summed_attention(
    q_BSHC: Tensor,
    q_BSHP: Tensor,
    k_BTHC: Tensor,
    k_BTP: Tensor,
    v_BTHV: Tensor,
    scale: float,
    accumulation: str,
) -> Tensor:
    """Naive multi-head attention [B, S, H, V], its values summed as `accumulation` says."""
    scores = torch.einsum("bshc,bthc->bhst", q_BSHC, k_BTHC)
    weights = causal_softmax((scores + torch.einsum("bshp,btp->bhst", q_BSHP, k_BTP)) * scale)
    terms = (torch.einsum("bhst,bthv->bshv", w, v).float() for w, v in _key_blocks(weights, v_BTHV))
    return summed(terms, accumulation).to(v_BTHV.dtype).contiguous()


def _absorbed_fake(
    q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, scale: float, accumulation: str
) -> Tensor:
    return q_BSHL.new_empty(q_BSHL.shape)


@kernel(
    "mla_attention",
    name="summed_mla_attention",
    fake=_absorbed_fake,
    inputs={"cache_BTM": Role.CACHE},
    flop=_ABSORBED.flop,
    rules=_ABSORBED.rules,
    attrs=lambda call: _ABSORBED.attrs(call) | _accumulation(call),
)
def summed_mla_attention(
    q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, scale: float, accumulation: str
) -> Tensor:
    """Absorbed attention [B, S, H, L], its latents summed as `accumulation` says."""
    latent_BTL, rope_BTP = cache_BTM.split([q_BSHL.shape[3], q_BSHP.shape[3]], -1)
    scores = torch.einsum("bshl,btl->bhst", q_BSHL, latent_BTL)
    weights = causal_softmax((scores + torch.einsum("bshp,btp->bhst", q_BSHP, rope_BTP)) * scale)
    terms = (torch.einsum("bhst,btl->bshl", w, v).float() for w, v in _key_blocks(weights, latent_BTL))
    return summed(terms, accumulation).to(latent_BTL.dtype).contiguous()


def _key_blocks(weights_BHST: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights and values of blocks of keys, in order."""
    yield from zip(weights_BHST.split(BLOCK, -1), values.split(BLOCK, 1), strict=True)
