from collections import Counter
from contextlib import closing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import DEVICE, DISK, HOST, PAGE_TOKENS, greedily, policy, prompt, small_blueprint, small_model

from hardware_specs.records.errors import DoesNotFitError, InputError
from model_graphs.page_ledger import CacheStep, Drop, PageLedger, replay
from model_graphs.page_places import Page
from model_graphs.tiers import CachedLayer, CachePolicy, Spill, Tier, TierName, cached_layers
from reference_impl.generation.cache import PlainCache, run_step
from reference_impl.generation.generate import generate
from reference_impl.generation.page_stores import FileStore, MemoryStore
from reference_impl.generation.paged_cache import PagedCache
from reference_impl.generation.sampling import Sampling

N_NEW = 14
LAYERS = len(small_blueprint().layers)
#: two sequences of 19 + 14 tokens
PAGES_OF_A_LAYER = 2 * -(-(19 + N_NEW) // PAGE_TOKENS)


def layers_of(element_bytes):
    return cached_layers(small_blueprint(), element_bytes)


def paged(tmp_path, device, host, spill=Spill.LAYER, element_bytes=4):
    layers = layers_of(element_bytes)
    kept = policy(PAGE_TOKENS * layers[0].bytes_per_token, device, host, spill)
    return PagedCache(kept, layers, n_sequences=2, spill_folder=tmp_path)


def logits_through(model, cache, ids, start):
    """Teacher-forced: the same tokens through the cache, logits of the last of the prompt and of each new."""
    logits = [run_step(model, ids[:, :start], cache)[0][:, -1]]
    logits += [run_step(model, ids[:, i : i + 1], cache)[0][:, -1] for i in range(start, ids.shape[1] - 1)]
    return torch.stack(logits, 1)


@pytest.mark.parametrize("spill", list(Spill))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_logits_over_tiers_are_those_of_the_models_own_call_bit_for_bit(tmp_path, spill, dtype):
    model, ids = small_model(dtype), prompt()
    wanted, wanted_logits = greedily(model, ids, N_NEW)
    with paged(tmp_path, PAGES_OF_A_LAYER + 3, 12, spill, dtype.itemsize) as cache:
        given = logits_through(model, cache, torch.cat([ids, wanted], 1), ids.shape[1])
        moved = set(cache.moved_bytes)
    assert torch.equal(given, wanted_logits)
    assert {(DEVICE, HOST), (HOST, DISK), (DISK, DEVICE)} <= moved


def test_the_plain_cache_of_sparse_attention_gives_the_models_own_logits_bit_for_bit():
    model, ids = small_model(name="deepseek-v3.2"), prompt()
    wanted, wanted_logits = greedily(model, ids, N_NEW)
    cache = PlainCache(len(model.layers))
    given = logits_through(model, cache, torch.cat([ids, wanted], 1), ids.shape[1])
    assert torch.equal(given, wanted_logits)


@pytest.mark.parametrize(
    "name", ["deepseek-v3", "deepseek-v3.2", "gpt-oss-20b", "qwen3-30b-a3b", "llama-3.1-8b"]
)
def test_tokens_over_tiers_are_those_of_the_plain_cache_in_every_family(tmp_path, name):
    model, sampling = small_model(name=name), Sampling(1.0, seed=5)
    wanted = generate(model, prompt(), N_NEW, sampling).ids
    layers = cached_layers(model.blueprint, element_bytes=4)
    page_bytes = PAGE_TOKENS * layers[0].bytes_per_token
    with PagedCache(policy(page_bytes, PAGES_OF_A_LAYER, 8), layers, 2, spill_folder=tmp_path) as cache:
        assert torch.equal(generate(model, prompt(), N_NEW, sampling, cache).ids, wanted)
        assert cache.moved_bytes[HOST, DISK] + cache.moved_bytes[DEVICE, HOST] > 0


@pytest.mark.parametrize("spill", list(Spill))
@pytest.mark.parametrize(("device", "host"), [(PAGES_OF_A_LAYER, 8), (PAGES_OF_A_LAYER + 9, 24), (40, 200)])
def test_bytes_that_moved_are_those_of_the_ledger_on_the_same_steps(model, tmp_path, spill, device, host):
    layers = cached_layers(small_blueprint(), element_bytes=2)
    kept = policy(PAGE_TOKENS * layers[0].bytes_per_token, device, host, spill)
    wide = small_model(torch.bfloat16)
    with PagedCache(kept, layers, 2, spill_folder=tmp_path) as cache:
        generate(wide, prompt(), N_NEW, Sampling(), cache, chunk_tokens=8)
        moved = cache.moved_bytes
    steps = [CacheStep(n) for n in (8, 8, 3, *[1] * (N_NEW - 1))]
    assert moved == sum((Counter(traffic) for traffic in replay(kept, layers, 2, steps)), Counter())


def test_only_the_running_layer_needs_the_device(model, tmp_path, monkeypatch):
    most = dict.fromkeys(TierName, 0)
    right = PagedCache.append

    def append(cache, layer, rows):
        right(cache, layer, rows)
        for tier in most:
            most[tier] = max(most[tier], cache.used_bytes(tier))

    monkeypatch.setattr(PagedCache, "append", append)
    page_bytes = PAGE_TOKENS * layers_of(4)[0].bytes_per_token
    with paged(tmp_path, PAGES_OF_A_LAYER, 5) as cache:
        generate(model, prompt(), N_NEW, Sampling(), cache)
    assert most[DEVICE] == PAGES_OF_A_LAYER * page_bytes
    assert most[HOST] == 5 * page_bytes
    assert most[DISK] >= (LAYERS - 2) * PAGES_OF_A_LAYER * page_bytes


def lost(store, page):
    return torch.zeros_like(right_get(store, page))


def shifted(store, page):
    return right_get(store, page).roll(1, 0)


right_get = FileStore.get


@pytest.mark.parametrize("mistake", [lost, shifted])
def test_a_page_that_comes_back_wrong_changes_the_logits(model, tmp_path, monkeypatch, mistake):
    wanted, wanted_logits = greedily(model, prompt(), N_NEW)
    monkeypatch.setattr(FileStore, "get", mistake)
    with paged(tmp_path, PAGES_OF_A_LAYER, 5) as cache:
        given = logits_through(model, cache, torch.cat([prompt(), wanted], 1), 19)
    assert not torch.equal(given, wanted_logits)


def test_a_stale_copy_below_changes_the_logits(model, tmp_path, monkeypatch):
    """A sequence's last page changes after it was copied; a ledger that forgot to say so would fetch it."""
    wanted, wanted_logits = greedily(model, prompt(), N_NEW)
    right = PageLedger.write

    def write(ledger, layer, n_new):
        events = right(ledger, layer, n_new)
        stale = [event for event in events if isinstance(event, Drop) and event.page.layer == layer]
        for event in stale:
            ledger._places.hold(event.tier, event.page)
        return [event for event in events if event not in stale]

    monkeypatch.setattr(PageLedger, "write", write)
    with paged(tmp_path, PAGES_OF_A_LAYER, 300) as cache:
        given = logits_through(model, cache, torch.cat([prompt(), wanted], 1), 19)
    assert not torch.equal(given, wanted_logits)


def test_tokens_taken_back_are_as_if_they_had_never_been(model, tmp_path):
    ids = prompt(n_tokens=40)
    plain = PlainCache(LAYERS)
    with paged(tmp_path, PAGES_OF_A_LAYER, 8) as cache:
        for one in (plain, cache):
            run_step(model, ids[:, :10], one)
            run_step(model, ids[:, 30:39], one)
            one.truncate(11)
        for piece in (ids[:, 11:15], ids[:, 15:16]):
            assert torch.equal(run_step(model, piece, cache)[0], run_step(model, piece, plain)[0])
        assert cache.n_tokens == plain.n_tokens == 16


@given(
    st.sampled_from(list(Spill)),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=6),
    st.integers(0, 20),
    st.integers(1, 12),
)
@settings(deadline=None, max_examples=25)
def test_whatever_is_kept_comes_back(tmp_path_factory, spill, trace, spare, host):
    """Rows in and rows out, no model: steps of any size, tokens taken back after each."""
    layers, n_sequences = (CachedLayer(24), CachedLayer(12), CachedLayer(24)), 2
    room = n_sequences * -(-sum(size for size, _ in trace) // PAGE_TOKENS) + spare
    kept = policy(PAGE_TOKENS * 24, room, host, spill)
    plain, numbers = PlainCache(3), torch.Generator().manual_seed(0)
    with PagedCache(kept, layers, n_sequences, spill_folder=tmp_path_factory.getbasetemp()) as paged:
        for size, n_rejected in trace:
            for layer, width in enumerate((6, 3, 6)):
                for cache in (plain, paged):
                    cache.gather(layer)
                rows = torch.randn(n_sequences, size, width, generator=numbers)
                plain.append(layer, rows)
                paged.append(layer, rows)
            n_tokens = max(plain.n_tokens - n_rejected, 1)
            for cache in (plain, paged):
                cache.truncate(n_tokens)
            for layer in range(3):
                assert torch.equal(paged.gather(layer), plain.gather(layer))


def test_pages_that_a_window_has_passed_are_gone_from_what_is_gathered():
    layers = (CachedLayer(8, window=5),)
    rows = torch.arange(26, dtype=torch.float32).view(1, 13, 2)
    with PagedCache(CachePolicy(PAGE_TOKENS, (Tier(DEVICE),)), layers, 1) as cache:
        cache.append(0, rows)
        assert torch.equal(cache.gather(0), rows[:, 8:])
        cache.append(0, rows[:, :2])
        assert torch.equal(cache.gather(0), torch.cat([rows[:, 8:], rows[:, :2]], 1))


def test_pages_of_the_disk_tier_are_in_a_file_that_is_gone_at_the_end(model, tmp_path):
    with paged(tmp_path, PAGES_OF_A_LAYER, 5) as cache:
        generate(model, prompt(), N_NEW, Sampling(), cache)
        assert cache._stores[DISK]._file.seek(0, 2) >= cache.used_bytes(DISK) > 0
    assert not list(tmp_path.iterdir())


def test_a_disk_tier_needs_a_folder_that_can_be_written(tmp_path):
    with pytest.raises(InputError, match="spill_folder  must be given"):
        PagedCache(policy(8, 1, 1), layers_of(4), 1)
    with pytest.raises(InputError, match="spill_folder  must be a folder that can be written"):
        PagedCache(policy(8, 1, 1), layers_of(4), 1, spill_folder=tmp_path / "absent")


def test_a_device_too_small_for_one_layer_says_what_it_needs(model, tmp_path):
    with paged(tmp_path, 5, 5) as cache, pytest.raises(DoesNotFitError, match="tier device") as caught:
        generate(model, prompt(), N_NEW, Sampling(), cache)
    page_bytes = PAGE_TOKENS * layers_of(4)[0].bytes_per_token
    assert caught.value.available_bytes == 5 * page_bytes
    assert caught.value.needed_bytes == 10 * page_bytes


def test_slots_of_the_file_are_used_again(tmp_path):
    first, second = Page(0, 0, 0), Page(0, 0, 1)
    data = torch.randn(4, 3).to(torch.bfloat16)
    with closing(FileStore(tmp_path, data.nbytes)) as store:
        store.put(first, data)
        store.put(second, data + 1)
        store.drop(first)
        store.put(first, data + 2)
        assert torch.equal(store.get(second), data + 1)
        assert torch.equal(store.get(first), data + 2)
        assert store._file.seek(0, 2) == 2 * data.nbytes


def test_what_memory_holds_is_a_copy():
    store, data = MemoryStore(torch.device("cpu")), torch.zeros(2, 2)
    store.put(Page(0, 0, 0), data)
    data += 1
    assert not store.get(Page(0, 0, 0)).any()
