"""Speculative decoding: a drafter proposes, the model judges several tokens in one step.

What comes out is distributed as the model's own samples; at temperature 0 it is its greedy output. The
sequences of a batch go in step: a round keeps as many drafts as the sequence that keeps the fewest, which
depends on tokens already decided only and so leaves the distribution alone. Acceptance is counted before
that cut.

Dimensions in names: B sequences, N tokens known so far, K drafted tokens, W vocabulary, D hidden.

References: Leviathan et al., arXiv 2211.17192, section 2.3; Chen et al., arXiv 2302.01318.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem
from reference_impl.decoder import Decoder
from reference_impl.generation.cache import Cache, PlainCache, run_step
from reference_impl.generation.drafters import Draft, Drafter
from reference_impl.generation.generate import Generation, check_request, prefill
from reference_impl.generation.sampling import Sampler, Sampling


@dataclass(frozen=True)
class Acceptance:
    """By draft position: how often a draft was judged, its predecessors accepted, and how often accepted."""

    judged: tuple[int, ...]
    accepted: tuple[int, ...]

    @property
    def fractions(self) -> tuple[float | None, ...]:
        """Accepted over judged; None where nothing was judged."""
        counts = zip(self.accepted, self.judged, strict=True)
        return tuple(accepted / judged if judged else None for accepted, judged in counts)


@dataclass(frozen=True)
class SpeculativeGeneration(Generation):
    """Generated tokens and how the drafts fared."""

    acceptance: Acceptance

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a decode step gives a sequence."""
        return (self.ids.shape[1] - 1) / self.n_decode_steps if self.n_decode_steps else 0.0


@dataclass(frozen=True)
class Verdict:
    """Tokens that a round decides [B, kept + 1], and how many drafts each sequence accepted [B]."""

    ids: Tensor
    n_accepted: Tensor


@dataclass(frozen=True)
class Round:
    """How many tokens were drafted, and what became of them."""

    n_drafts: int
    verdict: Verdict


def judge(probabilities_BKW: Tensor, draft: Draft, sampler: Sampler) -> Verdict:
    """Drafts kept while accepted, then one token more.

    `probabilities_BKW` holds the model's distributions at the K drafts and after the last, K + 1 in all. A
    draft is accepted with probability min(1, p / q); in the place of one that is not, a token is drawn from
    the part of p above q; after the last draft, from p.
    """
    n_drafts = draft.ids.shape[1]
    accepted_BK = _accepted(probabilities_BKW[:, :n_drafts], draft, sampler)
    n_accepted_B = accepted_BK.long().cumprod(1).sum(1)
    n_kept = int(n_accepted_B.min())
    last_BW = probabilities_BKW[:, n_kept]
    if n_kept == n_drafts:
        return Verdict(torch.cat([draft.ids, sampler.draw(last_BW)[:, None]], 1), n_accepted_B)
    drawn_B = sampler.draw(_residual(last_BW, draft.probabilities[:, n_kept]))
    last_B = torch.where(n_accepted_B > n_kept, draft.ids[:, n_kept], drawn_B)
    return Verdict(torch.cat([draft.ids[:, :n_kept], last_B[:, None]], 1), n_accepted_B)


def _accepted(p_BKW: Tensor, draft: Draft, sampler: Sampler) -> Tensor:
    """Which drafts pass [B, K], each looked at alone."""
    ids_BK1 = draft.ids.unsqueeze(-1)
    p_BK = p_BKW.gather(-1, ids_BK1).squeeze(-1)
    q_BK = draft.probabilities.gather(-1, ids_BK1).squeeze(-1)
    return sampler.uniform(*p_BK.shape) * q_BK < p_BK


def _residual(p_BW: Tensor, q_BW: Tensor) -> Tensor:
    """What of p lies above q, up to a factor; p itself where nothing does and so nothing is ever rejected."""
    above_BW = (p_BW - q_BW).clamp(min=0)
    return torch.where(above_BW.sum(-1, keepdim=True) > 0, above_BW, p_BW)


def speculate(
    model: Decoder,
    prompt_BN: Tensor,
    n_new: int,
    sampling: Sampling,
    drafter: Drafter,
    depth: int,
    cache: Cache | None = None,
    chunk_tokens: int | None = None,
) -> SpeculativeGeneration:
    """`n_new` tokens to follow each prompt, with up to `depth` drafts a step.

    Raises:
        InputError: a size of the request is below 1, or there are more tokens than positions.
        DoesNotFitError: the cache has tiers and they are too small.
    """
    check_request(model, prompt_BN, n_new, chunk_tokens)
    if depth < 1:
        raise InputError(Problem("must be at least 1", str(depth), path="depth"))
    cache = cache or PlainCache(len(model.layers))
    sampler = Sampler(sampling, prompt_BN.device)
    began_s = perf_counter()
    logits_BW, hidden_BSD = prefill(model, prompt_BN, cache, chunk_tokens)
    drafter.keep(cache.n_tokens, hidden_BSD)
    ids_BN = torch.cat([prompt_BN, sampler.draw(sampler.probabilities(logits_BW))[:, None]], 1)
    prefilled_s = perf_counter()
    rounds: list[Round] = []
    n_left = n_new - 1
    while n_left:
        done = _run_round(model, ids_BN, min(depth, n_left - 1), sampler, drafter, cache)
        ids_BN = torch.cat([ids_BN, done.verdict.ids], 1)
        n_left -= done.verdict.ids.shape[1]
        rounds.append(done)
    return SpeculativeGeneration(
        ids=ids_BN[:, -n_new:],
        n_decode_steps=len(rounds),
        prefill_s=prefilled_s - began_s,
        decode_s=perf_counter() - prefilled_s,
        acceptance=_acceptance(rounds, depth),
    )


def _run_round(
    model: Decoder, ids_BN: Tensor, n_drafts: int, sampler: Sampler, drafter: Drafter, cache: Cache
) -> Round:
    """Draft, run the last token and the drafts, judge, and take back what was not kept."""
    draft = drafter.propose(ids_BN, n_drafts, sampler) if n_drafts else None
    new_BS = ids_BN[:, -1:] if draft is None else torch.cat([ids_BN[:, -1:], draft.ids], 1)
    logits, hidden_BSD = run_step(model, new_BS, cache)
    probabilities = sampler.probabilities(logits)
    verdict = (
        _plain_verdict(probabilities, sampler) if draft is None else judge(probabilities, draft, sampler)
    )
    n_new = verdict.ids.shape[1]
    cache.truncate(ids_BN.shape[1] + n_new - 1)
    drafter.keep(cache.n_tokens, hidden_BSD[:, :n_new])
    return Round(n_drafts, verdict)


def _plain_verdict(probabilities_B1W: Tensor, sampler: Sampler) -> Verdict:
    """The next token where nothing was drafted, which is where only one is still wanted."""
    drawn_B = sampler.draw(probabilities_B1W[:, 0])
    return Verdict(drawn_B[:, None], torch.zeros_like(drawn_B))


def _acceptance(rounds: Sequence[Round], depth: int) -> Acceptance:
    by_position = [[done.verdict.n_accepted for done in rounds if done.n_drafts > k] for k in range(depth)]
    judged = (sum(int((n >= k).sum()) for n in counts) for k, counts in enumerate(by_position))
    accepted = (sum(int((n > k).sum()) for n in counts) for k, counts in enumerate(by_position))
    return Acceptance(tuple(judged), tuple(accepted))
