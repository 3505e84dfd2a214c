"""Output of speculation is distributed as plain sampling: Pearson's test on the first three tokens.

A right implementation fails `SIGNIFICANCE` of the time over seeds; the seed is fixed, so it never does here.
A wrong one must fall below it by far.
"""

from collections import Counter

import pytest
import torch
from chi_square import exact_triples, p_value
from small import (
    DEVICE,
    DISK,
    HOST,
    PAGE_TOKENS,
    greedily,
    policy,
    prompt,
    shallow_model,
    small_blueprint,
    small_model,
)

from hardware_specs.records.errors import InputError
from model_graphs.page_ledger import CacheStep, replay
from model_graphs.tiers import cached_layers
from reference_impl.decoder import MTPStep
from reference_impl.generation import speculative
from reference_impl.generation.cache import positions
from reference_impl.generation.drafters import Draft, DraftModel, MTPDrafter
from reference_impl.generation.generate import generate
from reference_impl.generation.paged_cache import PagedCache
from reference_impl.generation.sampling import Sampler, Sampling
from reference_impl.generation.speculative import Acceptance, judge, speculate
from reference_impl.narrow import narrow

SIGNIFICANCE = 0.001
N_WORDS = 5
TEMPERATURE = 0.3


def drafters(model):
    return {"mtp": MTPDrafter(model), "draft": DraftModel(shallow_model(seed=9)), "self": DraftModel(model)}


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("name", ["mtp", "draft", "self"])
def test_greedy_output_is_that_of_plain_decoding(shallow, name, depth):
    wanted, _ = greedily(shallow, prompt(), 16)
    given = speculate(shallow, prompt(), 16, Sampling(), drafters(shallow)[name], depth)
    assert torch.equal(given.ids, wanted)


def test_a_model_that_drafts_for_itself_is_always_right(shallow):
    """20 tokens: 1 of the prefill, 3 rounds of 5 drafts and one more, a round of one more and nothing."""
    given = speculate(shallow, prompt(1), 20, Sampling(), DraftModel(shallow), depth=5)
    assert given.acceptance.fractions == (1.0,) * 5
    assert given.n_decode_steps == 4
    assert given.tokens_per_step == pytest.approx(19 / 4)


def test_drafts_are_those_of_the_mtp_module_run_over_the_whole_text_at_once(shallow, monkeypatch):
    """The first draft of every round rests on hidden states of the main model and on all its past."""
    proposed = {}
    right = MTPDrafter.propose

    def propose(drafter, ids, n_drafts, sampler):
        draft = right(drafter, ids, n_drafts, sampler)
        proposed[ids.shape[1]] = draft.ids[:, 0]
        return draft

    monkeypatch.setattr(MTPDrafter, "propose", propose)
    given = speculate(shallow, prompt(), 16, Sampling(), MTPDrafter(shallow), 3)
    ids = torch.cat([prompt(), given.ids], 1)
    with torch.no_grad():
        _, hidden, _ = shallow(ids, positions(ids, 0), None, False)
        next_ids = ids[:, 1:]
        logits, _, _ = MTPStep(shallow)(next_ids, hidden[:, :-1], positions(next_ids, 1), None, False)
    assert len(proposed) > 3
    for n_tokens, first in proposed.items():
        assert torch.equal(first, logits[:, n_tokens - 2].argmax(-1))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_speculation_over_tiers_gives_the_tokens_and_the_ledger_gives_the_bytes(
    shallow, tmp_path, temperature
):
    sampling = Sampling(temperature, seed=2)
    wanted = speculate(shallow, prompt(), 18, sampling, MTPDrafter(shallow), 3)
    layers = cached_layers(shallow.blueprint, element_bytes=4)
    kept = policy(PAGE_TOKENS * layers[0].bytes_per_token, 20, 5)
    steps = []
    right = PagedCache.truncate

    def truncate(cache, n_tokens):
        steps.append((cache.n_tokens, n_tokens))
        right(cache, n_tokens)

    with pytest.MonkeyPatch.context() as patch, PagedCache(kept, layers, 2, spill_folder=tmp_path) as cache:
        patch.setattr(PagedCache, "truncate", truncate)
        given = speculate(shallow, prompt(), 18, sampling, MTPDrafter(shallow), 3, cache)
        moved = cache.moved_bytes
    assert torch.equal(given.ids, wanted.ids)
    assert {(DEVICE, HOST), (HOST, DISK), (DISK, DEVICE)} <= set(moved)
    trace, before = [CacheStep(19)], 19
    for reached, kept_tokens in steps:
        trace.append(CacheStep(reached - before, reached - kept_tokens))
        before = kept_tokens
    assert moved == sum((Counter(traffic) for traffic in replay(kept, layers, 2, trace)), Counter())


def triples(model, drafter_of, n_calls, depth=2, n_sequences=16):
    """How often each triple of tokens came first; the sequences of a call go in step."""
    counts = torch.zeros(N_WORDS, N_WORDS, N_WORDS)
    ids = prompt(1, 4, N_WORDS).expand(n_sequences, -1)
    for call in range(n_calls):
        made = speculate(model, ids, 4, Sampling(TEMPERATURE, seed=call), drafter_of(), depth)
        for first, second, third, _ in made.ids.tolist():
            counts[first, second, third] += 1
    return counts


def one_layer(seed):
    """A dense layer and an MTP module of another."""
    dense = narrow(small_blueprint(), 1).layers[:1]
    return small_model(seed=seed, vocab_size=N_WORDS, layers=dense, mtp_layers=dense)


@pytest.fixture(scope="module")
def few_words():
    return one_layer(seed=0)


@pytest.fixture(scope="module")
def wanted(few_words):
    return exact_triples(few_words, prompt(1, 4, N_WORDS), TEMPERATURE)


@pytest.fixture(params=["mtp", "draft"])
def drafter_of(request, few_words):
    other = one_layer(seed=1)
    return {"mtp": lambda: MTPDrafter(few_words), "draft": lambda: DraftModel(other)}[request.param]


def test_sampled_output_is_distributed_as_the_models_own(few_words, drafter_of, wanted):
    assert p_value(triples(few_words, drafter_of, 40), wanted) > SIGNIFICANCE


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 3])
def test_sampled_output_is_distributed_as_the_models_own_over_many_samples(
    few_words, drafter_of, wanted, depth
):
    assert p_value(triples(few_words, drafter_of, 1000, depth), wanted) > SIGNIFICANCE


def always(p_BKW, draft, sampler):
    return torch.ones_like(draft.ids, dtype=torch.bool)


def likely(p_BKW, draft, sampler):
    return p_BKW.gather(-1, draft.ids[..., None]).squeeze(-1) >= 0.5


def plain(p_BW, q_BW):
    return p_BW


@pytest.mark.parametrize(
    ("name", "mistake"), [("_accepted", always), ("_accepted", likely), ("_residual", plain)]
)
def test_a_mistaken_judge_is_caught_by_the_test(few_words, wanted, monkeypatch, name, mistake):
    monkeypatch.setattr(speculative, name, mistake)
    given = triples(few_words, lambda: MTPDrafter(few_words), 40)
    assert p_value(given, wanted) < SIGNIFICANCE / 1000


def test_acceptance_is_the_overlap_of_both_distributions():
    """p = (.5, .3, .2), q = (.2, .2, .6): the smaller ones sum to .6; deviation .0049 at 10,000 samples."""
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.2, 0.6]).double()
    n = 10_000
    sampler = Sampler(Sampling(1.0, seed=7))
    drafted = sampler.draw(q.expand(n, -1))[:, None]
    verdict = judge(p.expand(n, 2, 3), Draft(drafted, q.expand(n, 1, 3)), sampler)
    assert verdict.n_accepted.double().mean().item() == pytest.approx(0.6, abs=4 * 0.0049)
    counts = torch.bincount(verdict.ids[:, 0], minlength=3)
    assert p_value(counts, p) > SIGNIFICANCE


@pytest.mark.parametrize("drafter", [MTPDrafter, DraftModel])
def test_a_prompt_that_drafters_read_in_chunks_gives_the_same_drafts(shallow, drafter):
    whole, chunked = (
        speculate(shallow, prompt(), 10, Sampling(1.0, 3), drafter(shallow, chunk_tokens=size), 2)
        for size in (100, 4)
    )
    assert torch.equal(whole.ids, chunked.ids)
    assert whole.acceptance == chunked.acceptance


def test_acceptance_counts_a_draft_only_where_its_predecessors_passed():
    assert Acceptance((4, 2, 0), (2, 1, 0)).fractions == (0.5, 0.5, None)


def test_the_same_seed_gives_the_same_tokens(shallow):
    first, again = (
        speculate(shallow, prompt(), 12, Sampling(1.0, 6), MTPDrafter(shallow), 2) for _ in range(2)
    )
    assert torch.equal(first.ids, again.ids)
    assert first.acceptance == again.acceptance


def test_what_cannot_be_drafted_is_refused(shallow):
    with pytest.raises(InputError, match="depth  must be at least 1; given 0"):
        speculate(shallow, prompt(), 4, Sampling(), MTPDrafter(shallow), 0)
    with pytest.raises(InputError, match="num_nextn_predict_layers  must be at least 1"):
        MTPDrafter(small_model(mtp_layers=()))


def test_a_single_token_needs_no_step(shallow):
    given = speculate(shallow, prompt(), 1, Sampling(), MTPDrafter(shallow), 2)
    assert torch.equal(given.ids, generate(shallow, prompt(), 1, Sampling()).ids)
    assert given.n_decode_steps == 0
    assert given.tokens_per_step == 0
