from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardware_specs.records.errors import DoesNotFitError, InputError
from model_graphs.blueprint import EncoderBlueprint
from model_graphs.configs import list_models, resolve_model
from model_graphs.placement import Place, PlacementPlan
from reference_impl.measurement import subject
from reference_impl.measurement.machine import last_level_cache_bytes, memory_bytes
from reference_impl.measurement.request import MeasurementRequest
from reference_impl.measurement.subject import build_subject, measured_blueprint
from reference_impl.narrow import narrowed, some_layers

V3 = resolve_model("deepseek-v3")


def test_every_wrong_entry_of_a_request_is_named_at_once():
    with pytest.raises(InputError) as caught:
        MeasurementRequest("deepseek-v3", device="cdua", width="wide", batch=0, new_tokens=2, repeats=0)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["device", "width", "batch", "repeats", "past_tokens", "new_tokens"]


def test_prefill_has_no_past_and_decode_has_some():
    with pytest.raises(InputError, match="past tokens belong to"):
        MeasurementRequest("deepseek-v3", phase="prefill", past_tokens=8)
    with pytest.raises(InputError, match="phase decode needs at least 1"):
        MeasurementRequest("deepseek-v3", phase="decode", past_tokens=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused_before_anything_is_built():
    with pytest.raises(InputError, match="finds no CUDA device"):
        MeasurementRequest("deepseek-v3", device="cuda", past_tokens=8)


#: one of each architecture that generates
MODELS = {
    type(record.config): record
    for record in list_models()
    if not isinstance(record.blueprint, EncoderBlueprint)
}


def test_an_encoder_is_refused(tmp_path):
    request = MeasurementRequest("bert-large", past_tokens=4, n_layers=3)
    with pytest.raises(InputError, match="must be that of a decoder"):
        build_subject(resolve_model("bert-large"), request, tmp_path)


@pytest.mark.parametrize("record", MODELS.values(), ids=lambda record: record.key)
def test_every_architecture_has_a_narrow_form_of_the_asked_depth(record, tmp_path):
    request = MeasurementRequest(record.key, past_tokens=4, n_layers=3)
    built = build_subject(record, request, tmp_path)
    assert built.n_layers == 3
    assert sum(parameter.numel() for parameter in built.model.parameters()) < 50e6
    logits, *_ = built.step()
    assert torch.isfinite(logits).all()


def test_few_layers_are_taken_from_both_ends():
    request = MeasurementRequest("deepseek-v3", past_tokens=4, width="full", n_layers=3)
    blueprint, whole = measured_blueprint(V3, request), V3.config.blueprint
    assert [layer.name for layer in blueprint.layers] == ["dense_layer", "moe_layer", "moe_layer"]
    assert blueprint.hidden_size == whole.hidden_size
    full = measured_blueprint(V3, MeasurementRequest("deepseek-v3", past_tokens=4, width="full"))
    assert full.layers == whole.layers


@given(st.integers(1, 61))
def test_as_many_layers_are_taken_as_asked_for_each_at_most_once(n_layers):
    whole = V3.config.blueprint
    layers = tuple(replace(whole.layers[0], name=str(i)) for i in range(61))
    numbered = replace(whole, layers=layers)
    names = [int(layer.name) for layer in some_layers(numbered, n_layers).layers]
    assert len(names) == n_layers
    assert names == sorted(set(names))
    assert names[0] == 0
    assert n_layers == 1 or names[-1] == 60


def test_a_narrow_mixture_routes_inside_its_groups():
    mixture = narrowed(V3.config.blueprint).layers[-1].feed_forward
    assert (mixture.experts, mixture.topk, mixture.groups, mixture.topk_groups) == (16, 4, 4, 2)
    assert narrowed(narrowed(V3.config.blueprint)) == narrowed(V3.config.blueprint)


def test_more_layers_than_the_model_has_are_refused():
    with pytest.raises(InputError, match="at most the 61 layers of deepseek-v3"):
        measured_blueprint(V3, MeasurementRequest("deepseek-v3", past_tokens=4, n_layers=62))


def test_a_model_that_does_not_fit_is_refused_before_it_is_built(monkeypatch, tmp_path):
    monkeypatch.setattr(subject, "available_bytes", lambda device: 10**6)
    with pytest.raises(DoesNotFitError) as caught:
        build_subject(V3, MeasurementRequest("deepseek-v3", past_tokens=4), tmp_path)
    assert caught.value.available_bytes == 10**6
    assert caught.value.needed_bytes > 10**6


def test_the_same_seed_is_the_same_step_and_another_seed_another(tmp_path):
    def logits(seed):
        request = MeasurementRequest("deepseek-v3", past_tokens=8, seed=seed)
        return build_subject(V3, request, tmp_path).step()[0]

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))


def test_the_largest_cache_is_the_last_level(tmp_path):
    for level, size in enumerate(("32K", "1024K", "32M")):
        (tmp_path / f"index{level}").mkdir()
        (tmp_path / f"index{level}" / "size").write_text(f"{size}\n")
    assert last_level_cache_bytes(tmp_path) == 32 * 2**20
    assert last_level_cache_bytes(tmp_path / "absent") is None


def test_memory_is_read_in_kib(tmp_path):
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       24684084 kB\nMemAvailable:   1000 kB\n")
    assert memory_bytes("MemAvailable", table) == 1_024_000
    assert memory_bytes("MemTotal", tmp_path / "absent") is None


PLAN = PlacementPlan.parse("experts=gpu,layers:1=disk,rest=cpu")


def test_a_placed_model_takes_the_same_step_as_a_plain_one(tmp_path):
    plain = MeasurementRequest("deepseek-v3", past_tokens=8)
    placed = replace(plain, placement=PLAN, mapped={Place.GPU: Place.CPU})
    logits = [build_subject(V3, request, tmp_path).step()[0] for request in (plain, placed)]
    assert torch.equal(*logits)


def test_a_plan_needs_its_gpu_or_a_map(tmp_path):
    request = MeasurementRequest("deepseek-v3", past_tokens=8, placement=PLAN)
    with pytest.raises(InputError, match="gpu=cpu"):
        build_subject(V3, request, tmp_path)
