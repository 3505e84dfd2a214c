from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_specs.records.errors import DoesNotFitError, InputError
from model_graphs.page_ledger import CacheStep, Copy, PageLedger, replay, traffic_of
from model_graphs.page_places import Page
from model_graphs.tiers import CachedLayer, CachePolicy, Spill, Tier, TierName

DEVICE, HOST, DISK = TierName
UP, DOWN = (HOST, DEVICE), (DEVICE, HOST)
PAGE = 4 * 10  # bytes of a page of four tokens of ten bytes


def policy(device_pages=None, host_pages=None, disk=False, spill=Spill.LAYER, page_tokens=4):
    def limit(pages):
        return None if pages is None else pages * PAGE

    tiers = [Tier(DEVICE, limit(device_pages)), Tier(HOST, limit(host_pages))]
    return CachePolicy(page_tokens, (*tiers, Tier(DISK)) if disk else tuple(tiers), spill)


def layers(n, window=None):
    return (CachedLayer(10, window),) * n


def total(traffics):
    return sum((Counter(traffic) for traffic in traffics), Counter())


def steps(*sizes):
    return [CacheStep(size) for size in sizes]


def test_a_device_that_holds_everything_moves_nothing():
    assert not total(replay(policy(), layers(3), 2, steps(40, *[1] * 20)))


def test_three_layers_of_two_pages_over_a_device_of_four_by_hand():
    """Page lb is block b of layer l; the policy sends away what runs again last.

    Prefill of 8 tokens: layers 0 and 1 fill the device; layer 2 needs two pages, and layer 1 has just run: 10
    and 11 go down. Decode of token 9, whose rows open block 2 of every layer. Layer 0 is here; 02 needs room:
    20 down. Layer 1 fetches 10 and 11, for which 00 and 01 go down; 12 needs room: 02 down. Layer 2 fetches
    20, for which 10 leaves, and 22 needs room, for which 11 leaves, both for nothing: they lie below.
    """
    first, second = replay(policy(4), layers(3), 1, steps(8, 1))
    assert first == {DOWN: 2 * PAGE}
    assert second == {DOWN: (1 + 2 + 1) * PAGE, UP: (2 + 1) * PAGE}


def test_least_recently_used_scans_through_the_device_and_misses_every_page():
    """Two layers of three pages share room for four: whatever runs next is what was used longest ago."""
    lru = replay(policy(4, spill=Spill.LRU, page_tokens=4), layers(2), 1, steps(11, 1))
    kept = replay(policy(4, spill=Spill.LAYER, page_tokens=4), layers(2), 1, steps(11, 1))
    assert lru[1][UP] == kept[1][UP] == 4 * PAGE  # of six; two pages stay either way with two layers
    lru = replay(policy(6, spill=Spill.LRU), layers(3), 1, steps(11, 1))
    kept = replay(policy(6, spill=Spill.LAYER), layers(3), 1, steps(11, 1))
    assert lru[1][UP] == 9 * PAGE  # of nine
    assert kept[1][UP] < 9 * PAGE


def test_a_decode_step_fetches_what_the_device_does_not_hold():
    """Ten layers of two pages over a device of twelve: eight pages are below, and no page goes up twice."""
    moved = replay(policy(12), layers(10), 1, steps(7, 1, 1, 1))
    assert moved[1][UP] == 8 * PAGE  # token 7 fills the second pages, 8 and 9 open the third ones
    lru = replay(policy(12, spill=Spill.LRU), layers(10), 1, steps(7, 1, 1, 1))
    assert lru[1][UP] == 20 * PAGE


def test_oldest_block_sends_the_first_tokens_away():
    ledger = PageLedger(policy(4, spill=Spill.OLDEST_BLOCK), layers(3), 1)
    for layer in range(3):
        ledger.read(layer)
        events = ledger.write(layer, 8)
    assert [event.page for event in events if isinstance(event, Copy)] == [Page(0, 0, 0), Page(1, 0, 0)]


def test_a_page_that_did_not_change_goes_down_for_nothing():
    """Room for one layer of two full pages: every step fetches both, only the changing third goes down."""
    moved = replay(policy(3), layers(2), 1, steps(8, 1, 1, 1))
    for step in moved[2:]:
        assert step == {UP: 2 * 3 * PAGE, DOWN: 2 * PAGE}


def test_what_the_host_cannot_hold_goes_to_disk():
    moved = total(replay(policy(2, 2, disk=True), layers(3), 1, steps(8)))
    assert moved == {DOWN: 4 * PAGE, (HOST, DISK): 2 * PAGE}


def test_tokens_taken_back_free_their_pages_everywhere():
    ledger = PageLedger(policy(2, 2, disk=True), layers(3), 1)
    for layer in range(3):
        ledger.read(layer)
        ledger.write(layer, 8)
    ledger.truncate(4)
    assert sum(ledger.used_bytes(tier) for tier in TierName) == 3 * PAGE
    assert ledger.lengths == [4, 4, 4]


def test_pages_that_a_window_has_passed_are_dropped():
    """Tokens 0..12 are there and a window of 5: token 13 sees 9..12, so blocks 0 and 1 go."""
    ledger = PageLedger(policy(), layers(1, window=5), 1)
    ledger.write(0, 13)
    ledger.read(0)
    assert [page.block for page in ledger.pages(0)] == [2, 3]
    assert ledger.first_token(0) == 8
    assert ledger.used_bytes(DEVICE) == 2 * PAGE
    with pytest.raises(InputError, match="must leave at least 8 tokens; given 7"):
        ledger.truncate(7)


def test_a_layer_that_does_not_fit_says_what_it_needs():
    with pytest.raises(DoesNotFitError, match="tier device") as caught:
        replay(policy(2), layers(2), 1, steps(12))
    assert (caught.value.needed_bytes, caught.value.available_bytes) == (3 * PAGE, 2 * PAGE)


def test_tiers_that_do_not_hold_the_cache_say_what_they_need():
    with pytest.raises(DoesNotFitError, match="tier host") as caught:
        replay(policy(2, 3), layers(3), 1, steps(8))
    assert (caught.value.needed_bytes, caught.value.available_bytes) == (4 * PAGE, 3 * PAGE)


class Shadow:
    """Tiers filled by the events alone, which must make sense one by one."""

    def __init__(self, kept):
        self.limits = {tier.name: tier.capacity_bytes for tier in kept.tiers}
        self.held = {tier.name: set() for tier in kept.tiers}

    def follow(self, events):
        for event in events:
            if isinstance(event, Copy):
                assert event.page in self.held[event.source]
                assert event.page not in self.held[event.target]
                self.held[event.target].add(event.page)
            else:
                self.held[event.tier].remove(event.page)

    def check(self, ledger):
        alive = {page for layer in range(len(ledger.layers)) for page in ledger.pages(layer)}
        assert set.union(*self.held.values()) == alive
        for name, held in self.held.items():
            assert ledger.used_bytes(name) == PAGE * len(held)
            assert self.limits[name] is None or PAGE * len(held) <= self.limits[name]


@st.composite
def traces(draw):
    """A policy whose device holds the largest layer, and steps with tokens taken back."""
    n_layers, n_sequences = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    rejected = [draw(st.integers(0, size - 1)) for size in sizes]
    pages_of_a_layer = n_sequences * -(-sum(sizes) // 4)
    kept = policy(
        device_pages=pages_of_a_layer + draw(st.integers(0, 3 * pages_of_a_layer)),
        host_pages=draw(st.integers(1, 2 * pages_of_a_layer)),
        disk=True,
        spill=draw(st.sampled_from(Spill)),
    )
    return kept, n_layers, n_sequences, [CacheStep(*pair) for pair in zip(sizes, rejected, strict=True)]


@given(traces())
def test_no_page_is_lost_and_no_tier_overflows(trace):
    kept, n_layers, n_sequences, trace_steps = trace
    ledger, shadow = PageLedger(kept, layers(n_layers), n_sequences), Shadow(kept)
    moved = []
    for step in trace_steps:
        moved.append(Counter())
        for layer in range(n_layers):
            for move in (ledger.read, partial(ledger.write, n_new=step.n_new)):
                events = move(layer)
                moved[-1] += traffic_of(events)
                shadow.follow(events)
                shadow.held[DEVICE] |= set(ledger.pages(layer))  # the new ones, which no event names
                shadow.check(ledger)
        shadow.follow(ledger.truncate(ledger.lengths[-1] - step.n_rejected))
        shadow.check(ledger)
    assert moved == replay(kept, layers(n_layers), n_sequences, trace_steps)


@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 12), st.integers(0, 40))
def test_keeping_what_runs_next_never_fetches_more_than_least_recently_used(n_layers, prompt, new, spare):
    room = -(-(prompt + new) // 4) + spare
    fetched = {
        spill: total(replay(policy(room, spill=spill), layers(n_layers), 1, steps(prompt, *[1] * new)))[UP]
        for spill in Spill
    }
    assert fetched[Spill.LAYER] <= fetched[Spill.LRU]


@given(st.sampled_from([Spill.LRU, Spill.LAYER]), st.integers(2, 4), st.integers(1, 30), st.integers(0, 20))
def test_more_room_on_the_device_never_fetches_more(spill, n_layers, prompt, spare):
    room = -(-(prompt + 10) // 4) + spare
    small, large = (
        total(replay(policy(pages, spill=spill), layers(n_layers), 1, steps(prompt, *[1] * 10)))[UP]
        for pages in (room, room + 1)
    )
    assert large <= small
