"""What a step reads its past from and leaves its new rows in, and the plain form of it.

Dimensions in names: B sequences, S new tokens, T tokens in the cache. Rows are [B, tokens, ...]; what follows
is the layer's own (a latent, or heads of keys and values). A layer that caches two tensors, a latent and its
indexer's keys, has their rows side by side here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, overload

import torch
from torch import Tensor, nn

from reference_impl.decoder import Cache as LayerCache
from reference_impl.decoder import Decoder, DecoderLayer
from reference_impl.parts.sparse_attention import SparseMLA


class Cache(Protocol):
    """The past of a batch of sequences of one length, layer by layer."""

    @property
    def n_tokens(self) -> int:
        """Tokens a sequence that every layer holds."""

    def gather(self, layer: int) -> Tensor | None:
        """Rows [B, T, ...] of a layer that is about to run, or None where there are none."""

    def append(self, layer: int, rows: Tensor) -> None:
        """Keep the new rows [B, S, ...] of a layer that has run."""

    def truncate(self, n_tokens: int) -> None:
        """Take back the tokens from number `n_tokens` on."""


class PlainCache:
    """One contiguous tensor a layer, where the model is."""

    def __init__(self, n_layers: int) -> None:
        self._rows: list[Tensor | None] = [None] * n_layers

    @property
    def n_tokens(self) -> int:
        """Tokens a sequence."""
        last = self._rows[-1]
        return 0 if last is None else last.shape[1]

    def gather(self, layer: int) -> Tensor | None:
        """The layer's rows."""
        return self._rows[layer]

    def append(self, layer: int, rows: Tensor) -> None:
        """Put rows behind those of the layer."""
        past = self._rows[layer]
        self._rows[layer] = rows if past is None else torch.cat([past, rows], 1)

    def truncate(self, n_tokens: int) -> None:
        """Keep the first tokens."""
        self._rows = [rows if rows is None else rows[:, :n_tokens].contiguous() for rows in self._rows]


def side_by_side(cache: LayerCache) -> Tensor:
    """What a layer caches as one tensor [B, T, ...]."""
    return cache if isinstance(cache, Tensor) else torch.cat(cache, -1)


def apart(rows: Tensor | None, layer: DecoderLayer) -> LayerCache | None:
    """Rows [B, T, ...] as the layer takes its cache."""
    mixer = layer.self_attn
    if rows is None or not isinstance(mixer, SparseMLA):
        return rows
    latent, keys = rows.split((*mixer.cache_widths, *mixer.index_widths), -1)
    return latent, keys


class _Past(Sequence[LayerCache | None]):
    """The cache as the list that a model reads, each layer gathered when it is asked for."""

    def __init__(self, cache: Cache, layers: nn.ModuleList) -> None:
        self._cache = cache
        self._layers = layers

    @overload
    def __getitem__(self, index: int) -> LayerCache | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LayerCache | None]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return apart(self._cache.gather(index), self._layers[index])

    def __len__(self) -> int:
        return len(self._layers)


@torch.no_grad()
def run_step(model: Decoder, ids_BS: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
    """Logits [B, S, W] and final hidden states [B, S, D] of new tokens, which then are in the cache.

    Only the running layer's rows are gathered: each layer's new rows are kept as soon as it has run.
    """
    start, n_new = cache.n_tokens, ids_BS.shape[1]
    past = _Past(cache, model.layers) if start else None
    with _keeping_rows(model.layers, cache, n_new):
        logits, hidden, _ = model(ids_BS, positions(ids_BS, start), past, start > 0)
    return logits, hidden


def positions(ids_BS: Tensor, start: int) -> Tensor:
    """Positions [B, S] of tokens of which the first is number `start`."""
    return torch.arange(start, start + ids_BS.shape[1], device=ids_BS.device).expand(ids_BS.shape[0], -1)


@contextmanager
def _keeping_rows(layers: nn.ModuleList, cache: Cache, n_new: int) -> Iterator[None]:
    hooks = [
        layer.register_forward_hook(partial(_keep_rows, cache, index, n_new))
        for index, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _keep_rows(
    cache: Cache, index: int, n_new: int, layer: nn.Module, inputs: object, output: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The layer's output with its new rows in the place of its whole cache, which is then free to go."""
    rows = side_by_side(output[-1])[:, -n_new:].contiguous()
    cache.append(index, rows)
    return (*output[:-1], rows)
