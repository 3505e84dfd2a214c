import numpy as np
import pytest
import torch

from hardware_specs.records.errors import InputError
from model_graphs.transforms import PLANS
from reference_impl.decoder import build_model
from reference_impl.proxy.checkpoint import checkpoint_bytes, load_checkpoint
from reference_impl.proxy.corpus import Windows, is_for_evaluation, standard_library
from reference_impl.proxy.study import bootstrap, by_position, compare, units_beyond
from reference_impl.proxy.training import CONFIG, Recipe, positions_of, train

SHORT = Recipe(steps=3, short_length=16, short_count=2, long_share=0.34, long_length=32, warm_up_steps=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for number in range(24):
        text = f"def f{number}(x):\n    return x + {number}\n" * 6
        (folder / f"module{number}.py").write_text(text, encoding="utf-8")
    (folder / "test").mkdir()
    (folder / "test" / "left_out.py").write_text("x = 1\n", encoding="utf-8")
    return standard_library(folder)


@pytest.fixture(scope="module")
def trained(corpus):
    return train(corpus, 0, SHORT)


def test_a_file_is_for_training_or_for_evaluation_by_its_name(corpus):
    assert not corpus.training.keys() & corpus.evaluation.keys()
    assert all(is_for_evaluation(name) for name in corpus.evaluation)
    assert not any(is_for_evaluation(name) for name in corpus.training)
    assert len(corpus.training) + len(corpus.evaluation) == 24


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="source files for training and evaluation"):
        standard_library(tmp_path)


def test_windows_are_passages_of_one_file_and_what_follows_them(corpus):
    ids, following = Windows(corpus.training, 20, seed=0).draw(5)
    assert torch.equal(ids[:, 1:], following[:, :-1])
    texts = [bytes([*row.tolist(), last[-1].item()]) for row, last in zip(ids, following, strict=True)]
    assert all(any(text in whole for whole in corpus.training.values()) for text in texts)


def test_a_window_longer_than_every_file_is_refused(corpus):
    with pytest.raises(InputError, match="longer than a window"):
        Windows(corpus.training, 10**6, seed=0)


def test_training_moves_every_weight_and_is_the_same_for_the_same_seed(corpus, trained):
    again, other = train(corpus, 0, SHORT), train(corpus, 1, SHORT)
    assert checkpoint_bytes(again) == checkpoint_bytes(trained)
    assert checkpoint_bytes(other) != checkpoint_bytes(trained)
    assert not any(p.requires_grad for p in trained.model.parameters())


def test_experts_are_balanced_by_their_correction_bias_alone(trained):
    biases = [b for name, b in trained.model.named_buffers() if name.endswith("e_score_correction_bias")]
    assert len(biases) == 3
    assert all(b.abs().max() > 0 for b in biases)


def test_three_steps_already_lower_the_loss(corpus, trained):
    torch.manual_seed(0)
    ids, following = Windows(corpus.evaluation, 32, seed=0).draw(2)
    loss = compare(trained.model, [], (ids, following))[0]
    assert loss.mean() < np.log(256)


def test_a_checkpoint_comes_back_with_what_identifies_it(trained, corpus, tmp_path):
    path = tmp_path / "proxy.safetensors"
    path.write_bytes(checkpoint_bytes(trained))
    model, identity = load_checkpoint(path)
    ids = torch.arange(12).unsqueeze(0)
    assert torch.equal(model(ids, positions_of(ids))[0], trained.model(ids, positions_of(ids))[0])
    assert (identity["corpus"], identity["seed"], identity["steps"]) == (corpus.hash, "0", "3")
    with pytest.raises(InputError, match="must be a file that exists"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_model_diverges_from_itself_by_nothing_and_more_with_fewer_bits(trained, corpus):
    passages = Windows(corpus.evaluation, 32, seed=0).draw(2)
    names = ("bf16", "int8_weights", "int2")
    scores = compare(trained.model, [PLANS[name] for name in names], passages)[1]
    assert scores["bf16"].divergence.max() == 0
    assert scores["bf16"].agreement.min() == 1
    assert 0 < scores["int8_weights"].divergence.mean() < scores["int2"].divergence.mean()
    assert scores["int8_weights"].bits_a_weight == pytest.approx(
        8.16, abs=0.1
    )  # scales on 64 to 384 wide rows


def test_comparing_leaves_the_model_as_it_was(trained, corpus):
    before = checkpoint_bytes(trained)
    compare(trained.model, [PLANS["2of4"]], Windows(corpus.evaluation, 16, seed=0).draw(1))
    assert checkpoint_bytes(trained) == before


def test_the_bootstrap_of_a_constant_is_that_constant_and_of_noise_holds_zero():
    assert bootstrap([2.0] * 5).low == bootstrap([2.0] * 5).high == 2.0
    noise = np.random.default_rng(0).normal(size=50)
    found = bootstrap([float(x) for x in noise])
    assert found.low < 0 < found.high
    assert found == bootstrap([float(x) for x in noise])


def test_positions_are_averaged_between_edges():
    scores = np.array([[1.0, 3.0, 5.0, 7.0], [3.0, 5.0, 7.0, 9.0]])
    assert by_position(scores, (0, 2, 4)) == [3.0, 7.0]
    assert units_beyond(scores, 2) == [6.0, 8.0]


def test_the_proxy_has_the_size_that_the_page_says():
    assert sum(p.numel() for p in build_model(CONFIG.blueprint, device="meta").parameters()) == 2_354_816
