"""Plain generation: prefill in chunks, then one token a step.

Dimensions in names: B sequences, N tokens known so far, S new tokens, W vocabulary, D hidden.
"""

from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem
from model_graphs.tiers import cached_layers
from reference_impl.decoder import Decoder
from reference_impl.generation.cache import Cache, PlainCache, run_step
from reference_impl.generation.sampling import Sampler, Sampling

_ANY_WIDTH = 2


@dataclass(frozen=True)
class Generation:
    """Generated tokens [B, new], and what they took: decode steps, and seconds by the wall clock."""

    ids: Tensor
    n_decode_steps: int
    prefill_s: float
    decode_s: float

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens after the first, of all sequences, per second of decoding."""
        n_sequences, n_new = self.ids.shape
        return n_sequences * (n_new - 1) / self.decode_s if self.decode_s else 0.0


def check_request(model: Decoder, prompt_BN: Tensor, n_new: int, chunk_tokens: int | None) -> None:
    """Nothing, for a request that can be served.

    Raises:
        InputError: the prompt, the answer or a chunk is empty, or both are longer than the model's positions;
            all of it is named.
    """
    cached_layers(model.blueprint, _ANY_WIDTH)  # refuses states, which no cache here keeps
    sizes = {"prompt_tokens": prompt_BN.shape[1], "new_tokens": n_new, "chunk_tokens": chunk_tokens}
    problems = [
        Problem("must be at least 1", str(size), path=name)
        for name, size in sizes.items()
        if size is not None and size < 1
    ]
    n_tokens, n_positions = prompt_BN.shape[1] + n_new, model.blueprint.max_positions
    if n_tokens > n_positions:
        requirement = f"must be at most the model's {n_positions:,} positions with the prompt"
        problems.append(Problem(requirement, f"{n_tokens:,}", path="new_tokens"))
    if problems:
        raise InputError(*problems)


def prefill(
    model: Decoder, ids_BN: Tensor, cache: Cache, chunk_tokens: int | None = None
) -> tuple[Tensor, Tensor]:
    """Logits of the last token [B, W] and hidden states of all [B, N, D]; in chunks if a size is given."""
    hidden = []
    for chunk_BS in ids_BN.split(chunk_tokens or ids_BN.shape[1], 1):
        logits, hidden_BSD = run_step(model, chunk_BS, cache)
        hidden.append(hidden_BSD)
    return logits[:, -1], torch.cat(hidden, 1)


def generate(
    model: Decoder,
    prompt_BN: Tensor,
    n_new: int,
    sampling: Sampling,
    cache: Cache | None = None,
    chunk_tokens: int | None = None,
) -> Generation:
    """`n_new` tokens to follow each prompt; without a cache, a plain one is made.

    Raises:
        InputError: the prompt, the answer or a chunk is empty, or there are more tokens than positions.
        DoesNotFitError: the cache has tiers and they are too small.
    """
    check_request(model, prompt_BN, n_new, chunk_tokens)
    cache = cache or PlainCache(len(model.layers))
    sampler = Sampler(sampling, prompt_BN.device)
    began_s = perf_counter()
    logits_BW, _ = prefill(model, prompt_BN, cache, chunk_tokens)
    ids = [sampler.draw(sampler.probabilities(logits_BW))]
    prefilled_s = perf_counter()
    for _ in range(n_new - 1):
        logits, _ = run_step(model, ids[-1].unsqueeze(1), cache)
        ids.append(sampler.draw(sampler.probabilities(logits[:, -1])))
    return Generation(torch.stack(ids, 1), n_new - 1, prefilled_s - began_s, perf_counter() - prefilled_s)
