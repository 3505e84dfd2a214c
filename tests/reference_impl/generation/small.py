"""Small models with random weights, prompts, and generation by the plain call of the model, cache and all."""

from dataclasses import replace
from typing import Any

import torch
from tiny import positions_of
from torch import Tensor

from model_graphs.blueprint import Blueprint
from model_graphs.configs import resolve_model
from model_graphs.tiers import CachePolicy, Spill, Tier, TierName
from reference_impl.decoder import Decoder, build_model
from reference_impl.narrow import narrow, randomise

DEVICE, HOST, DISK = TierName
PAGE_TOKENS = 4


def small_blueprint(name: str = "deepseek-v3", **changes: Any) -> Blueprint:
    return replace(narrow(resolve_model(name).blueprint), **changes)


def small_model(
    dtype: torch.dtype = torch.float32, seed: int = 0, name: str = "deepseek-v3", **changes: Any
) -> Decoder:
    model = build_model(small_blueprint(name, **changes), dtype)
    randomise(model, seed)
    return model


def shallow_model(seed: int = 0) -> Decoder:
    return small_model(seed=seed, layers=narrow(small_blueprint(), layers_of_a_kind=1).layers)


def prompt(n_sequences: int = 2, n_tokens: int = 19, vocab: int = 512, seed: int = 1) -> Tensor:
    return torch.randint(0, vocab, (n_sequences, n_tokens), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def greedily(model: Decoder, prompt_ids: Tensor, n_new: int) -> tuple[Tensor, Tensor]:
    """Ids and the logits that each came from, by nothing but the model's call and a growing tensor."""
    logits, _, past = model(prompt_ids, positions_of(prompt_ids), None, False)
    ids, seen = [logits[:, -1].argmax(-1)], [logits[:, -1]]
    for step in range(n_new - 1):
        new = ids[-1][:, None]
        logits, _, past = model(new, positions_of(new, prompt_ids.shape[1] + step), past, True)
        seen.append(logits[:, -1])
        ids.append(seen[-1].argmax(-1))
    return torch.stack(ids, 1), torch.stack(seen, 1)


def policy(page_bytes: int, device: int | None, host: int | None, spill: Spill = Spill.LAYER) -> CachePolicy:
    """Capacities in pages, and a disk that holds the rest."""
    limits = {DEVICE: device, HOST: host, DISK: None}
    tiers = tuple(Tier(name, pages and pages * page_bytes) for name, pages in limits.items())
    return CachePolicy(PAGE_TOKENS, tiers, spill)
