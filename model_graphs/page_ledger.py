"""Which page of a KV cache moves where, step by step: the tier policy as pure accounting, without tensors.

A layer is read before it runs, which brings all its pages to the device, and written after. A full tier
spills into the next one, whole pages in the order of the policy. A page that is fetched keeps its copy below
until its content changes, so that what is spilled again unchanged costs nothing; a tier that runs short
forgets such copies first. Pages that a window has passed are dropped when the layer is next read. Latency and
bandwidth of a move are left to whoever prices it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hardware_specs.records.errors import DoesNotFitError, InputError, Problem
from model_graphs.page_places import Page, PagePlaces
from model_graphs.tiers import CachedLayer, CachePolicy, Spill, TierName

#: bytes by (source, target)
Traffic = Mapping[tuple[TierName, TierName], int]


@dataclass(frozen=True, slots=True)
class Copy:
    """A page's bytes go from one tier to another and stay in both."""

    page: Page
    source: TierName
    target: TierName
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Drop:
    """A tier forgets a page."""

    page: Page
    tier: TierName


Event = Copy | Drop


@dataclass(frozen=True)
class CacheStep:
    """A forward pass over `n_new` tokens a sequence, of which the last `n_rejected` are taken back."""

    n_new: int
    n_rejected: int = 0


class PageLedger:
    """The pages of sequences of one length, and the tiers that hold them.

    Every method that moves pages returns what happened, in order. After a `DoesNotFitError` the ledger is of
    no further use.
    """

    def __init__(self, policy: CachePolicy, layers: Sequence[CachedLayer], n_sequences: int) -> None:
        self.policy = policy
        self.layers = tuple(layers)
        self.n_sequences = n_sequences
        #: tokens a sequence, by layer
        self.lengths = [0] * len(self.layers)
        self._first_blocks = [0] * len(self.layers)
        self._last_run = [0] * len(self.layers)
        self._n_runs = 0
        self._running = 0
        by_block = policy.spill is Spill.OLDEST_BLOCK
        self._places = PagePlaces(
            (tier.name for tier in policy.tiers),
            bucket_of=lambda page: page.block if by_block else page.layer,
            bytes_of=lambda page: self.page_bytes(page.layer),
        )

    def page_bytes(self, layer: int) -> int:
        """Bytes of a page of the layer."""
        return self.policy.page_tokens * self.layers[layer].bytes_per_token

    def used_bytes(self, tier: TierName) -> int:
        """Bytes of the pages that the tier holds, copies included."""
        return self._places.used_bytes[tier]

    def first_token(self, layer: int) -> int:
        """The first token that the layer's pages hold; later than 0 once a window has passed pages."""
        return self._first_blocks[layer] * self.policy.page_tokens

    def pages(self, layer: int) -> list[Page]:
        """The layer's live pages, sequence by sequence."""
        return self._pages_from(layer, self._first_blocks[layer])

    def _pages_from(self, layer: int, first_block: int) -> list[Page]:
        blocks = range(first_block, -(-self.lengths[layer] // self.policy.page_tokens))
        return [Page(layer, sequence, block) for sequence in range(self.n_sequences) for block in blocks]

    def read(self, layer: int) -> list[Event]:
        """The layer is about to run: all its pages come to the device.

        Raises:
            DoesNotFitError: they do not fit there, or what must make way fits nowhere.
        """
        self._run(layer)
        events = self._pass_window(layer)
        self._fetch(self.pages(layer), events)
        return events

    def write(self, layer: int, n_new: int) -> list[Event]:
        """The layer has run: `n_new` tokens a sequence are appended on the device.

        Raises:
            DoesNotFitError: the pages do not fit there, or what must make way fits nowhere.
        """
        self._run(layer)
        first_block = self.lengths[layer] // self.policy.page_tokens
        self.lengths[layer] += n_new
        touched = self._pages_from(layer, first_block)
        changed = [page for page in touched if self._places.tiers_of(page)]
        new = [page for page in touched if not self._places.tiers_of(page)]

        events: list[Event] = []
        self._fetch(changed, events)
        for page in changed:
            for tier in self._places.tiers_of(page):
                if tier is not TierName.DEVICE:
                    self._drop(tier, page, events)
        self._make_room(0, self._bytes_of(new), events)
        for page in new:
            self._places.hold(TierName.DEVICE, page)
        return events

    def truncate(self, n_tokens: int) -> list[Event]:
        """Tokens from number `n_tokens` on are taken back in every layer; pages left empty are dropped.

        Raises:
            InputError: a window has passed what would then be the last tokens.
        """
        earliest = max(self.first_token(layer) for layer in range(len(self.layers)))
        if n_tokens < earliest:
            raise InputError(
                Problem(f"must leave at least {earliest} tokens", str(n_tokens), path="n_tokens")
            )
        events: list[Event] = []
        for layer, length in enumerate(self.lengths):
            before = self.pages(layer)
            self.lengths[layer] = min(length, n_tokens)
            self._forget(before, self.pages(layer), events)
        return events

    def _run(self, layer: int) -> None:
        self._n_runs += 1
        self._last_run[layer] = self._n_runs
        self._running = layer

    def _pass_window(self, layer: int) -> list[Event]:
        """Drop what not even the next token sees."""
        events: list[Event] = []
        window = self.layers[layer].window
        if window is not None:
            before = self.pages(layer)
            first_seen = max(self.lengths[layer] - window + 1, 0)
            self._first_blocks[layer] = first_seen // self.policy.page_tokens
            self._forget(before, self.pages(layer), events)
        return events

    def _fetch(self, pages: Sequence[Page], events: list[Event]) -> None:
        missing = [page for page in pages if TierName.DEVICE not in self._places.tiers_of(page)]
        self._make_room(0, self._bytes_of(missing), events)
        for page in missing:
            (source,) = self._places.tiers_of(page)
            self._copy(page, source, TierName.DEVICE, events)

    def _make_room(self, index: int, needed_bytes: int, events: list[Event]) -> None:
        """Spill pages of a tier until it has room."""
        tier = self.policy.tiers[index]
        if tier.capacity_bytes is None:
            return
        short_bytes = needed_bytes - (tier.capacity_bytes - self.used_bytes(tier.name))
        victims: list[Page] = []
        for page in self._leaving_order(index) if short_bytes > 0 else ():
            victims.append(page)
            short_bytes -= self.page_bytes(page.layer)
            if short_bytes <= 0:
                break
        if short_bytes > 0:
            where = f"tier {tier.name} of the KV cache, as layer {self._running} runs,"
            raise DoesNotFitError(where, tier.capacity_bytes + short_bytes, tier.capacity_bytes)
        self._spill(index, victims, events)

    def _leaving_order(self, index: int) -> Iterator[Page]:
        """Pages that may leave a tier, first to go first.

        The device keeps those of the running layer. A tier below first forgets what the device has too, and
        parts with the running layer's last; where there is nothing below it, it keeps what is nowhere else.
        """
        name, is_last = self.policy.tiers[index].name, index + 1 == len(self.policy.tiers)
        if index > 0:
            yield from self._places.in_order(name, self._rank, copied=True)
        if is_last:
            return
        running = []
        for page in self._places.in_order(name, self._rank):
            if page.layer == self._running:
                running.append(page)
            elif index == 0 or not self._places.is_copied(page):
                yield page
        if index > 0:
            yield from (page for page in running if not self._places.is_copied(page))

    def _rank(self, bucket: int) -> int:
        """What the policy orders by: blocks, or layers."""
        if self.policy.spill is Spill.OLDEST_BLOCK:
            return bucket
        if self.policy.spill is Spill.LRU:
            return self._last_run[bucket]
        return -((bucket - self._running) % len(self.layers))

    def _spill(self, index: int, victims: Sequence[Page], events: list[Event]) -> None:
        """Out of a tier into the next one; what lies elsewhere too is forgotten at once."""
        tier = self.policy.tiers[index]
        only_here = [page for page in victims if not self._places.is_copied(page)]
        for page in victims:
            if self._places.is_copied(page):
                self._drop(tier.name, page, events)
        if not only_here:
            return
        target = self.policy.tiers[index + 1]
        for batch in self._batches(only_here, target.capacity_bytes):
            self._make_room(index + 1, self._bytes_of(batch), events)
            for page in batch:
                self._copy(page, tier.name, target.name, events)
                self._drop(tier.name, page, events)

    def _batches(self, pages: Sequence[Page], capacity_bytes: int | None) -> Iterator[list[Page]]:
        """The pages in runs that an empty tier could hold, or one by one where it cannot hold even that."""
        batch: list[Page] = []
        n_bytes = 0
        for page in pages:
            n_bytes += self.page_bytes(page.layer)
            if batch and capacity_bytes is not None and n_bytes > capacity_bytes:
                yield batch
                batch, n_bytes = [], self.page_bytes(page.layer)
            batch.append(page)
        yield batch

    def _bytes_of(self, pages: Iterable[Page]) -> int:
        return sum(self.page_bytes(page.layer) for page in pages)

    def _copy(self, page: Page, source: TierName, target: TierName, events: list[Event]) -> None:
        self._places.hold(target, page)
        events.append(Copy(page, source, target, self.page_bytes(page.layer)))

    def _drop(self, tier: TierName, page: Page, events: list[Event]) -> None:
        self._places.drop(tier, page)
        events.append(Drop(page, tier))

    def _forget(self, before: Iterable[Page], after: Iterable[Page], events: list[Event]) -> None:
        """Drop what is no more from wherever it is."""
        kept = set(after)
        for page in before:
            if page not in kept:
                for tier in self._places.tiers_of(page):
                    self._drop(tier, page, events)


def traffic_of(events: Iterable[Event]) -> Counter[tuple[TierName, TierName]]:
    """Bytes copied by the events, by (source, target)."""
    moved: Counter[tuple[TierName, TierName]] = Counter()
    for event in events:
        if isinstance(event, Copy):
            moved[event.source, event.target] += event.n_bytes
    return moved


def replay(
    policy: CachePolicy, layers: Sequence[CachedLayer], n_sequences: int, steps: Iterable[CacheStep]
) -> list[Traffic]:
    """Bytes that each step moves between tiers, starting from an empty cache.

    Raises:
        DoesNotFitError: a layer does not fit on the device, or all of it not into the tiers.
    """
    ledger = PageLedger(policy, layers, n_sequences)
    return [traffic_of(_step_events(ledger, step)) for step in steps]


def _step_events(ledger: PageLedger, step: CacheStep) -> list[Event]:
    events: list[Event] = []
    for layer in range(len(ledger.layers)):
        events += ledger.read(layer) + ledger.write(layer, step.n_new)
    if step.n_rejected:
        events += ledger.truncate(ledger.lengths[-1] - step.n_rejected)
    return events
