"""Where drafts of speculative decoding come from: the model's own MTP module, or a separate smaller model.

Dimensions in names: B sequences, N tokens known so far, K drafted tokens, W vocabulary, D hidden.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem
from reference_impl.decoder import Decoder, MTPStep
from reference_impl.generation.cache import Cache, PlainCache, apart, positions, run_step, side_by_side
from reference_impl.generation.sampling import Sampler

#: tokens that a drafter reads at once where the caller does not say otherwise
LARGEST_CHUNK = 2048


@dataclass(frozen=True)
class Draft:
    """Proposed tokens [B, K] and the distributions [B, K, W] that they were drawn from."""

    ids: Tensor
    probabilities: Tensor


class Drafter(Protocol):
    """Proposes tokens and hears which were kept."""

    def propose(self, ids_BN: Tensor, n_drafts: int, sampler: Sampler) -> Draft:
        """At least one token to follow the known ones."""

    def keep(self, n_tokens: int, hidden_BSD: Tensor) -> None:
        """The model has now run `n_tokens` tokens that stay; these are the hidden states of the new ones."""


class DraftModel:
    """A separate model of the same vocabulary, with a cache of its own; it reads prompts in chunks."""

    def __init__(self, model: Decoder, cache: Cache | None = None, chunk_tokens: int = LARGEST_CHUNK) -> None:
        self._model = model
        self._chunk_tokens = chunk_tokens
        self._cache = cache or PlainCache(len(model.layers))

    def propose(self, ids_BN: Tensor, n_drafts: int, sampler: Sampler) -> Draft:
        """Tokens that the model itself would have generated."""
        ids, distributions = [], []
        new_BS = ids_BN[:, self._cache.n_tokens :]
        for _ in range(n_drafts):
            for chunk_BS in new_BS.split(self._chunk_tokens, 1):
                logits, _ = run_step(self._model, chunk_BS, self._cache)
            distributions.append(sampler.probabilities(logits[:, -1]))
            ids.append(sampler.draw(distributions[-1]))
            new_BS = ids[-1].unsqueeze(1)
        return Draft(torch.stack(ids, 1), torch.stack(distributions, 1))

    def keep(self, n_tokens: int, hidden_BSD: Tensor) -> None:
        """Forget drafts that were not kept."""
        self._cache.truncate(min(self._cache.n_tokens, n_tokens))


class MTPDrafter:
    """The first multi-token prediction module, run on its own output again for every further draft.

    Entry t of its cache pairs the hidden state of token t with token t + 1. Entries of drafts rest on hidden
    states that the main model has not made: they go once the draft is judged. Prompts are read in chunks.

    Raises:
        InputError: the model has no such module.
    """

    def __init__(self, model: Decoder, cache: Cache | None = None, chunk_tokens: int = LARGEST_CHUNK) -> None:
        if not len(model.mtp):
            raise InputError(
                Problem("must be at least 1 to draft with MTP", "0", path="num_nextn_predict_layers")
            )
        self._step = MTPStep(model)
        self._cache = cache or PlainCache(1)
        self._chunk_tokens = chunk_tokens
        self._n_confirmed = 0
        self._waiting: list[Tensor] = []  # hidden states of tokens whose pair has not run

    @torch.no_grad()
    def propose(self, ids_BN: Tensor, n_drafts: int, sampler: Sampler) -> Draft:
        """Tokens by the module, which first catches up with the tokens kept since."""
        next_BS, hidden_BSD = ids_BN[:, self._n_confirmed + 1 :], torch.cat(self._waiting, 1)
        self._waiting = []
        self._n_confirmed += next_BS.shape[1]
        ids, distributions = [], []
        for _ in range(n_drafts):
            chunks = (x.split(self._chunk_tokens, 1) for x in (next_BS, hidden_BSD))
            for chunk in zip(*chunks, strict=True):
                logits, hidden_BSD = self._run(*chunk)
            distributions.append(sampler.probabilities(logits[:, -1]))
            ids.append(sampler.draw(distributions[-1]))
            next_BS, hidden_BSD = ids[-1].unsqueeze(1), hidden_BSD[:, -1:]
        return Draft(torch.stack(ids, 1), torch.stack(distributions, 1))

    def keep(self, n_tokens: int, hidden_BSD: Tensor) -> None:
        """Forget the entries of drafts; the new hidden states wait for their next tokens."""
        self._cache.truncate(self._n_confirmed)
        self._waiting.append(hidden_BSD)

    def _run(self, next_BS: Tensor, hidden_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and hidden states of the module, whose new rows then are in the cache."""
        start, n_new = self._cache.n_tokens, next_BS.shape[1]
        past = apart(self._cache.gather(0), self._step.mtp.layer)
        where = positions(next_BS, start + 1)
        logits, hidden, rows = self._step(next_BS, hidden_BSD, where, past, start > 0)
        self._cache.append(0, side_by_side(rows)[:, -n_new:].contiguous())
        return logits, hidden
