"""Each plausible mistake of an implementer must break parity by about what it was measured to.

Weights are spread and the router biased: under `transformers`' default initialisation three of these hide.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from parity import make_oracle, mtp_logits, prefill
from tiny import relative

from reference_impl import kernels
from reference_impl.kernels import experts
from reference_impl.parts import rotary

RIGHT = 1e-5


@pytest.fixture(scope="module")
def biased_oracle():
    """A router whose biases are all far below zero, which is where filling with zero shows."""
    return make_oracle(bias_mean=-2.0)


def test_without_a_mistake_parity_holds(oracle, biased_oracle):
    for right in (oracle, biased_oracle):
        assert relative(prefill(right.ours(), right.ids, False), right.logits) < RIGHT
        assert relative(mtp_logits(right.ours(), right.ids), right.mtp_logits) < RIGHT


@pytest.mark.parametrize(
    ("change", "measured"),
    [
        pytest.param({"n_group": 1, "topk_group": 1}, 0.68, id="no group limit"),
        pytest.param({"norm_topk_prob": False}, 0.90, id="no top-k normalisation"),
        pytest.param({"routed_scaling_factor": 1.0}, 0.53, id="no routed scaling"),
    ],
)
def test_a_mistaken_config_breaks_parity(oracle, change, measured):
    mistaken = oracle.ours(oracle.config.model_copy(update=change))
    assert relative(prefill(mistaken, oracle.ids, False), oracle.logits) > measured / 2


def test_ignoring_the_correction_bias_breaks_parity(oracle):
    mistaken = oracle.ours()
    for name, bias in mistaken.named_buffers():
        if name.endswith("e_score_correction_bias"):
            bias.zero_()
    assert relative(prefill(mistaken, oracle.ids, False), oracle.logits) > 0.78 / 2


def route(x_ND, gate_ED, bias_E, topk, n_groups, topk_groups, scale, normalise, *others, mistake):
    logits = F.linear(x_ND.float(), gate_ED.float())
    scores = logits.sigmoid()
    indices = experts._inside_best_groups(scores + bias_E, n_groups, topk_groups).topk(topk, -1).indices
    source = {"biased": scores + bias_E, "softmax": logits.softmax(-1)}[mistake]
    weights = source.gather(1, indices)
    return weights / (weights.sum(-1, keepdim=True) + 1e-20) * scale, indices


@pytest.mark.parametrize(("mistake", "measured"), [("biased", 0.39), ("softmax", 0.42)])
def test_weighing_by_other_than_the_plain_sigmoid_score_breaks_parity(oracle, monkeypatch, mistake, measured):
    monkeypatch.setattr(kernels, "moe_route", partial(route, mistake=mistake))
    assert relative(prefill(oracle.ours(), oracle.ids, False), oracle.logits) > measured / 2


def inside_best_groups(choice, n_groups, topk_groups, scored_of_group, *, best_of_group, fill):
    grouped = choice.unflatten(1, (n_groups, -1))
    best = best_of_group(grouped).topk(topk_groups, -1).indices
    kept = torch.zeros(grouped.shape[:2], dtype=torch.bool).scatter_(1, best, True)
    return grouped.masked_fill(~kept.unsqueeze(-1), fill).flatten(1)


def test_scoring_a_group_by_its_best_expert_alone_breaks_parity(oracle, monkeypatch):
    mistaken = partial(inside_best_groups, best_of_group=lambda g: g.amax(-1), fill=float("-inf"))
    monkeypatch.setattr(experts, "_inside_best_groups", mistaken)
    assert relative(prefill(oracle.ours(), oracle.ids, False), oracle.logits) > 0.77 / 2


def top_two(grouped):
    return grouped.topk(2, -1).values.sum(-1)


def test_filling_masked_groups_with_zero_breaks_parity_only_under_negative_biases(
    oracle, biased_oracle, monkeypatch
):
    monkeypatch.setattr(
        experts, "_inside_best_groups", partial(inside_best_groups, best_of_group=top_two, fill=0.0)
    )
    biased = prefill(biased_oracle.ours(), biased_oracle.ids, False)
    assert relative(biased, biased_oracle.logits) > 1.1 / 2
    assert relative(prefill(oracle.ours(), oracle.ids, False), oracle.logits) < RIGHT


def test_rotating_halves_instead_of_pairs_breaks_parity(oracle, monkeypatch):
    def rope(x, cos, sin):
        first, second = x.chunk(2, -1)
        cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    monkeypatch.setattr(kernels, "rope", rope)
    assert relative(prefill(oracle.ours(), oracle.ids, False), oracle.logits) > 0.54 / 2


def test_leaving_frequencies_unstretched_breaks_parity(oracle, monkeypatch):
    (rope,) = oracle.config.blueprint.ropes
    plain = rotary.inverse_frequencies(replace(rope, scaling=None))
    monkeypatch.setattr(rotary, "inverse_frequencies", lambda config: plain)
    assert relative(prefill(oracle.ours(), oracle.ids, False), oracle.logits) > 0.45 / 2


def test_leaving_the_magnitude_out_of_the_softmax_scale_breaks_parity(oracle, monkeypatch):
    mistaken = oracle.ours()
    for layer in mistaken.layers:
        layer.self_attn.scale = 24**-0.5  # of a head of 16 + 8
    assert relative(prefill(mistaken, oracle.ids, False), oracle.logits) > 0.70 / 2


def test_hidden_state_before_embedding_in_the_mtp_projection_breaks_mtp_alone(oracle, monkeypatch):
    right = kernels.concat
    monkeypatch.setattr(kernels, "concat", lambda x, y: right(y, x))
    assert relative(mtp_logits(oracle.ours(), oracle.ids), oracle.mtp_logits) > 1.6 / 2
    assert relative(prefill(oracle.ours(), oracle.ids, False), oracle.logits) < RIGHT
