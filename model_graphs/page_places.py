"""Where the pages of a KV cache lie: which tiers hold which page, in buckets that a policy orders by."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from model_graphs.tiers import TierName


class Page(NamedTuple):
    """A page of one layer and sequence: block n holds tokens n x page_tokens onwards."""

    layer: int
    sequence: int
    block: int


Buckets = dict[int, set[Page]]


class PagePlaces:
    """Pages by tier. A page lies in one tier, or on the device and in one tier below.

    Every page belongs to a bucket, so that the first pages of an order are found without sorting all of them.
    """

    def __init__(
        self, tiers: Iterable[TierName], bucket_of: Callable[[Page], int], bytes_of: Callable[[Page], int]
    ) -> None:
        names = tuple(tiers)
        self._bucket_of = bucket_of
        self._bytes_of = bytes_of
        self._tiers_of: dict[Page, list[TierName]] = {}
        self._held: dict[TierName, Buckets] = {name: {} for name in names}
        self._copied: dict[TierName, Buckets] = {name: {} for name in names}
        self.used_bytes = dict.fromkeys(names, 0)

    def tiers_of(self, page: Page) -> tuple[TierName, ...]:
        """The tiers that hold the page."""
        return tuple(self._tiers_of.get(page, ()))

    def is_copied(self, page: Page) -> bool:
        """Whether the page lies in two tiers."""
        return len(self._tiers_of[page]) > 1

    def hold(self, tier: TierName, page: Page) -> None:
        """The tier has the page, besides whatever has it already."""
        self._tiers_of.setdefault(page, []).append(tier)
        self._held[tier].setdefault(self._bucket_of(page), set()).add(page)
        self.used_bytes[tier] += self._bytes_of(page)
        if self.is_copied(page):
            for name in self._tiers_of[page]:
                self._copied[name].setdefault(self._bucket_of(page), set()).add(page)

    def drop(self, tier: TierName, page: Page) -> None:
        """The tier has the page no more."""
        if self.is_copied(page):
            for name in self._tiers_of[page]:
                self._remove(self._copied[name], page)
        self._remove(self._held[tier], page)
        self.used_bytes[tier] -= self._bytes_of(page)
        self._tiers_of[page].remove(tier)
        if not self._tiers_of[page]:
            del self._tiers_of[page]

    def in_order(self, tier: TierName, rank: Callable[[int], int], *, copied: bool = False) -> Iterator[Page]:
        """The tier's pages, or only those that lie elsewhere too, bucket by bucket in the order of ranks."""
        buckets = (self._copied if copied else self._held)[tier]
        for bucket in sorted(buckets, key=rank):
            yield from sorted(buckets[bucket])

    def _remove(self, buckets: Buckets, page: Page) -> None:
        bucket = self._bucket_of(page)
        buckets[bucket].remove(page)
        if not buckets[bucket]:
            del buckets[bucket]
