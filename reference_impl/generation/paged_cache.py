"""A cache of pages that live in tiers: the ledger decides what moves, real tensors move, bytes are counted.

The device tier is where the model is, the host tier is memory of the CPU, the disk tier a file in a folder.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem
from model_graphs.page_ledger import Copy, Event, PageLedger
from model_graphs.page_places import Page
from model_graphs.tiers import CachedLayer, CachePolicy, TierName
from reference_impl.generation.page_stores import FileStore, MemoryStore, PageStore


class PagedCache:
    """Rows of every layer in pages, spilled and fetched by a policy; a context manager that frees its tiers.

    `moved_bytes` counts, by (source, target), the bytes of the tensors that moved.

    Raises:
        InputError: the policy has a disk tier and no folder is given, or it cannot be written.
    """

    def __init__(
        self,
        policy: CachePolicy,
        layers: Sequence[CachedLayer],
        n_sequences: int,
        device: torch.device | str = "cpu",
        spill_folder: Path | None = None,
    ) -> None:
        self._ledger = PageLedger(policy, layers, n_sequences)
        slot_bytes = max(self._ledger.page_bytes(layer) for layer in range(len(layers)))
        self._stores = {
            tier.name: _store(tier.name, torch.device(device), spill_folder, slot_bytes)
            for tier in policy.tiers
        }
        self.moved_bytes: Counter[tuple[TierName, TierName]] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free every tier; the file of the disk tier is gone."""
        for store in self._stores.values():
            store.close()

    @property
    def n_tokens(self) -> int:
        """Tokens a sequence."""
        return self._ledger.lengths[-1]

    def used_bytes(self, tier: TierName) -> int:
        """Bytes of the pages that the tier holds."""
        return self._ledger.used_bytes(tier)

    def gather(self, layer: int) -> Tensor | None:
        """The layer's rows from its pages, all of which are on the device then.

        Raises:
            DoesNotFitError: they do not fit there, or what must make way fits nowhere.
        """
        self._follow(self._ledger.read(layer))
        pages = self._ledger.pages(layer)
        if not pages:
            return None
        n_rows = self._ledger.lengths[layer] - self._ledger.first_token(layer)
        data = [self._stores[TierName.DEVICE].get(page) for page in pages]
        blocks = torch.stack(data).unflatten(0, (self._ledger.n_sequences, -1))
        return blocks.flatten(1, 2)[:, :n_rows].contiguous()

    def append(self, layer: int, rows: Tensor) -> None:
        """The rows into the layer's pages, new ones where the last is full.

        Raises:
            DoesNotFitError: the pages do not fit on the device, or what must make way fits nowhere.
        """
        page_tokens, start = self._ledger.policy.page_tokens, self._ledger.lengths[layer]
        existing = set(self._ledger.pages(layer))
        self._follow(self._ledger.write(layer, rows.shape[1]))
        device = self._stores[TierName.DEVICE]
        for page in self._ledger.pages(layer):
            if page not in existing:
                device.put(page, rows.new_zeros((page_tokens, *rows.shape[2:])))
            first, end = page.block * page_tokens, (page.block + 1) * page_tokens
            if end > start:
                new = rows[page.sequence, max(first - start, 0) : end - start]
                offset = max(start - first, 0)
                device.get(page)[offset : offset + len(new)] = new

    def truncate(self, n_tokens: int) -> None:
        """Take tokens back; pages left empty are dropped.

        Raises:
            InputError: a window has passed what would then be the last tokens.
        """
        self._follow(self._ledger.truncate(n_tokens))

    def _follow(self, events: Iterable[Event]) -> None:
        """Do with tensors what the ledger has decided."""
        for event in events:
            if isinstance(event, Copy):
                self._copy(event.page, event.source, event.target)
            else:
                self._stores[event.tier].drop(event.page)

    def _copy(self, page: Page, source: TierName, target: TierName) -> None:
        data = self._stores[source].get(page)
        self._stores[target].put(page, data)
        self.moved_bytes[source, target] += data.nbytes


def _store(tier: TierName, device: torch.device, folder: Path | None, slot_bytes: int) -> PageStore:
    if tier is not TierName.DISK:
        return MemoryStore(device if tier is TierName.DEVICE else torch.device("cpu"))
    if folder is None:
        raise InputError(Problem("must be given, because the policy has a disk tier", path="spill_folder"))
    return FileStore(folder, slot_bytes)
