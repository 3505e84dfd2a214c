"""Acceptance of drafts on a proxy that is trained for seconds, on text that it can learn in that time."""

from dataclasses import replace

import pytest
import torch

from reference_impl.generation.drafters import DraftModel, MTPDrafter
from reference_impl.generation.generate import generate
from reference_impl.generation.sampling import Sampling
from reference_impl.generation.speculative import Acceptance, speculate
from reference_impl.proxy import drafters
from reference_impl.proxy.acceptance import acceptance_on, summed
from reference_impl.proxy.checkpoint import checkpoint_bytes, load_checkpoint
from reference_impl.proxy.corpus import Windows, standard_library
from reference_impl.proxy.drafters import train_draft_model, train_mtp, with_untrained_mtp
from reference_impl.proxy.training import Recipe, train

MAIN = Recipe(steps=60, short_length=48, short_count=8, long_share=0.0, long_length=64, warm_up_steps=5)
DRAFTING = replace(MAIN, steps=40)
DEPTH = 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for number in range(24):
        text = f"def f{number}(x):\n    return x + {number}\n" * 6
        (folder / f"module{number}.py").write_text(text, encoding="utf-8")
    return standard_library(folder)


@pytest.fixture(scope="module")
def proxy(corpus):
    return train(corpus, 0, MAIN)


@pytest.fixture(scope="module")
def with_mtp(corpus, proxy):
    return train_mtp(proxy.model, corpus, 0, DRAFTING)[0]


@pytest.fixture(scope="module")
def draft_model(corpus):
    return train_draft_model(corpus, 0, DRAFTING).model


@pytest.fixture(scope="module")
def prompts(corpus):
    return Windows(corpus.evaluation, 32, seed=0).draw(6)[0]


def first(model, prompts, temperature=0.0):
    """The fraction of first drafts that are accepted."""
    found = acceptance_on(model, lambda: MTPDrafter(model), prompts, 12, temperature, DEPTH)
    return found.fractions[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_trained_module_is_accepted_far_more_often_than_an_untrained_one(
    proxy, with_mtp, prompts, temperature
):
    untrained = with_untrained_mtp(proxy.model, 0)
    assert first(with_mtp, prompts, temperature) > first(untrained, prompts, temperature) + 0.3


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(lambda next_BS: (next_BS[:, :-1], next_BS[:, :-1]), id="one behind"),
        pytest.param(lambda next_BS: (next_BS[:, :-2], next_BS[:, 2:]), id="one ahead"),
    ],
)
def test_a_module_trained_on_shifted_targets_is_of_no_use(
    monkeypatch, corpus, proxy, with_mtp, prompts, pairs
):
    """It learns what it was told, and drafts what has been said or what comes too early."""
    monkeypatch.setattr(drafters, "mtp_pairs", pairs)
    shifted, loss = train_mtp(proxy.model, corpus, 0, DRAFTING)
    assert loss < 1.0
    assert first(shifted, prompts) < 0.25
    assert first(with_mtp, prompts) > 0.6


@pytest.mark.parametrize("kind", ["mtp", "draft", "untrained"])
def test_greedy_output_with_drafts_is_plain_greedy_output(proxy, with_mtp, draft_model, prompts, kind):
    model = with_untrained_mtp(proxy.model, 0) if kind == "untrained" else with_mtp
    for prompt in prompts[:3, None]:
        drafter = DraftModel(draft_model) if kind == "draft" else MTPDrafter(model)
        given = speculate(model, prompt, 12, Sampling(), drafter, DEPTH)
        assert torch.equal(given.ids, generate(proxy.model, prompt, 12, Sampling()).ids)


def test_the_draft_model_is_smaller_and_is_accepted_too(proxy, with_mtp, draft_model, prompts):
    assert _size(draft_model) < _size(proxy.model) / 5
    found = acceptance_on(with_mtp, lambda: DraftModel(draft_model), prompts, 12, 0.0, DEPTH)
    assert found.fractions[0] > 0.5


def test_training_the_module_leaves_the_proxy_as_it_was(corpus, proxy, with_mtp):
    kept = {name: x for name, x in with_mtp.state_dict().items() if not name.startswith("mtp.")}
    assert kept.keys() == proxy.model.state_dict().keys()
    assert all(torch.equal(x, proxy.model.state_dict()[name]) for name, x in kept.items())
    assert not any(p.requires_grad for p in with_mtp.parameters())


def test_the_module_is_the_same_for_the_same_seed(corpus, proxy):
    few = replace(DRAFTING, steps=2)
    first_one, again, other = (train_mtp(proxy.model, corpus, seed, few)[0].mtp for seed in (0, 0, 1))
    pairs = list(zip(first_one.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_a_checkpoint_may_carry_the_module_and_need_not(proxy, with_mtp, tmp_path):
    path = tmp_path / "proxy.safetensors"
    path.write_bytes(checkpoint_bytes(replace(proxy, model=with_mtp, mtp_loss=0.5)))
    model, identity = load_checkpoint(path, mtp=True)
    assert identity["mtp_loss"] == "0.5000"
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in with_mtp.state_dict().items())
    assert not len(load_checkpoint(path)[0].mtp)
    path.write_bytes(checkpoint_bytes(proxy))
    assert not len(load_checkpoint(path, mtp=True)[0].mtp)


def test_every_token_after_the_first_is_an_accepted_draft_or_a_steps_own(with_mtp, prompts):
    for prompt in prompts[:, None]:
        given = speculate(with_mtp, prompt, 12, Sampling(1.0), MTPDrafter(with_mtp), DEPTH)
        assert sum(given.acceptance.accepted) + given.n_decode_steps == 12 - 1


def test_counts_are_summed_by_position():
    parts = [Acceptance((3, 2), (2, 1)), Acceptance((5, 0), (0, 0))]
    assert summed(parts) == Acceptance((8, 2), (2, 1))


def _size(model):
    return sum(p.numel() for p in model.parameters())
