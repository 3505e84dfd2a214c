from dataclasses import replace

import pytest
import torch
from small import DEVICE, PAGE_TOKENS, greedily, prompt, small_model
from tiny import distance

from hardware_specs.records.errors import InputError
from model_graphs.blueprint import AttentionSpec, FeedForwardSpec, LayerSpec, RopeSpec
from model_graphs.tiers import CachePolicy, Tier, cached_layers
from reference_impl.generation.cache import PlainCache, run_step
from reference_impl.generation.generate import generate, prefill
from reference_impl.generation.paged_cache import PagedCache
from reference_impl.generation.sampling import Sampler, Sampling

TOLERANCE = 1e-5


def windowed_model():
    """Two layers of grouped attention that see five tokens, around one that sees all."""
    attention = AttentionSpec(heads=4, kv_heads=2, head_dim=16, rope=RopeSpec(16, 1e4), scale=0.25)
    layers = tuple(
        LayerSpec(f"window {window}", replace(attention, window=window), FeedForwardSpec(64))
        for window in (5, None, 5)
    )
    return small_model(layers=layers, mtp_layers=())


def test_greedy_generation_is_that_of_the_models_own_call(shallow):
    wanted, _ = greedily(shallow, prompt(), 12)
    assert torch.equal(generate(shallow, prompt(), 12, Sampling()).ids, wanted)


@pytest.mark.parametrize("chunk", [1, 7, 18, 100])
def test_chunked_prefill_equals_whole_prefill(shallow, chunk):
    whole, hidden = prefill(shallow, prompt(), PlainCache(len(shallow.layers)))
    chunked, chunked_hidden = prefill(shallow, prompt(), PlainCache(len(shallow.layers)), chunk)
    assert distance(chunked, whole) < TOLERANCE
    assert distance(chunked_hidden, hidden) < TOLERANCE


def test_windows_hold_over_pages_that_are_dropped():
    model, ids = windowed_model(), prompt(2, 30)
    layers = cached_layers(model.blueprint, element_bytes=4)
    plain = PlainCache(len(layers))
    with PagedCache(CachePolicy(PAGE_TOKENS, (Tier(DEVICE),)), layers, 2) as paged:
        for piece in ids.split([11, 1, 6, 1, 11], 1):
            given, wanted = (run_step(model, piece, cache)[0] for cache in (paged, plain))
            assert distance(given, wanted) < TOLERANCE
        page_bytes = PAGE_TOKENS * layers[0].bytes_per_token
        for layer in (0, 2):
            paged.gather(layer)  # before token 30, which sees 26..29: blocks 6 and 7 of 8
        n_sequences = 2
        assert paged.used_bytes(DEVICE) == n_sequences * (2 * 2 + 8) * page_bytes


def test_a_window_that_drops_too_much_changes_the_logits():
    model, ids = windowed_model(), prompt(2, 30)
    shorter = tuple(
        replace(layer, window=layer.window and layer.window - 4)
        for layer in cached_layers(model.blueprint, element_bytes=4)
    )
    plain = PlainCache(3)
    with PagedCache(CachePolicy(1, (Tier(DEVICE),)), shorter, 2) as paged:
        for cache in (plain, paged):
            run_step(model, ids[:, :20], cache)
        given, wanted = (run_step(model, ids[:, 20:21], cache)[0] for cache in (paged, plain))
    assert distance(given, wanted) > 100 * TOLERANCE


def test_the_same_seed_gives_the_same_tokens_and_another_does_not(shallow):
    first, again, other = (generate(shallow, prompt(), 20, Sampling(1.0, seed)).ids for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_low_temperature_is_greedy(shallow):
    cold = generate(shallow, prompt(), 8, Sampling(1e-6, seed=1)).ids
    assert torch.equal(cold, generate(shallow, prompt(), 8, Sampling()).ids)


def test_temperature_divides_the_logits():
    """Logits 0 and ln 4 at temperature 2: odds of 1 to 2."""
    sampler = Sampler(Sampling(2.0))
    given = sampler.probabilities(torch.tensor([[0.0, 4.0]]).log().clamp(min=0))
    assert given.tolist()[0] == pytest.approx([1 / 3, 2 / 3])


def test_speed_counts_tokens_after_the_first_of_all_sequences(shallow):
    made = generate(shallow, prompt(), 5, Sampling())
    assert made.n_decode_steps == 4
    assert made.decode_tokens_per_s == pytest.approx(2 * 4 / made.decode_s)


def test_everything_wrong_with_a_request_is_said_at_once(shallow):
    with pytest.raises(InputError) as caught:
        generate(shallow, prompt()[:, :0], 0, Sampling(), chunk_tokens=0)
    assert [problem.path for problem in caught.value.problems] == [
        "prompt_tokens",
        "new_tokens",
        "chunk_tokens",
    ]
    with pytest.raises(
        InputError, match="new_tokens  must be at most the model's 24 positions with the prompt"
    ):
        generate(small_model(max_positions=24), prompt(), 6, Sampling())
    with pytest.raises(InputError, match="temperature  must be at least 0; given -1"):
        Sampling(-1.0)
