from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY, positions_of, randomise

from hardware_specs.records.errors import InputError
from model_graphs.blueprint import Blueprint
from model_graphs.configs import resolve_model
from model_graphs.graph import OperatorGraph
from model_graphs.placement import Place, PlacementPlan
from model_graphs.placing import apply_placement, crossing_bytes, weight_bytes_by_place
from reference_impl.decoder import Decoder, build_model
from reference_impl.emission import emit
from reference_impl.measurement.narrowing import narrowed, some_layers
from reference_impl.placed_model import PlacedModel, devices_at_hand

BATCH, PAST = 2, 12
V3 = TINY.blueprint
ON_CPU = devices_at_hand({Place.GPU: Place.CPU})
PLANS = (
    "rest=cpu",
    "layers:2-3=gpu,head=gpu,rest=cpu",
    "layers:1-2=gpu,rest=cpu",
    "experts=cpu,rest=gpu",
    "experts:2=gpu,layers:0-1=gpu,rest=cpu",
    "layers:1-2=disk,head=disk,rest=gpu",
    "experts=disk,rest=gpu",
    "rest=disk",
)
#: windows in turn, sinks, biases and experts without a shared one; grouped attention and a tied head
OTHERS = {
    key: narrowed(some_layers(resolve_model(key).blueprint, 4)) for key in ("gpt-oss-20b", "llama-3.2-1b")
}


def model_of(blueprint: Blueprint = V3, dtype: torch.dtype = torch.float32) -> Decoder:
    torch.manual_seed(0)
    model = build_model(blueprint, dtype)
    randomise(model)
    return model


def inputs(model: Decoder, n_new: int, n_past: int):
    torch.manual_seed(7)
    ids = torch.randint(model.blueprint.vocab_size, (BATCH, n_new))
    dtype = model.embed_tokens.weight.dtype
    widths = [layer.self_attn.cache_widths for layer in model.layers]
    past = [torch.randn(BATCH, n_past, *width, dtype=dtype) for width in widths]
    return ids, positions_of(ids, n_past), past if n_past else None, bool(n_past)


def placed_model(text: str, folder: Path | None = None, blueprint: Blueprint = V3, **changes) -> PlacedModel:
    return PlacedModel(model_of(blueprint, **changes), PlacementPlan.parse(text), ON_CPU, folder)


@cache
def graph_of(blueprint: Blueprint, phase: str) -> OperatorGraph:
    return emit(blueprint, phase)


def placed_graph(text: str, phase: str = "decode", blueprint: Blueprint = V3) -> OperatorGraph:
    names = [layer.name for layer in blueprint.layers]
    return apply_placement(graph_of(blueprint, phase), PlacementPlan.parse(text), names)


def wanted_bytes(text: str, phase: str, n_new: int, n_past: int, blueprint: Blueprint = V3):
    point = {"B": BATCH, "S": n_new, "T": n_past}
    crossed = crossing_bytes(placed_graph(text, phase, blueprint))
    return {way: int(n.evaluate(point)) for way, n in crossed.items()}


@pytest.mark.parametrize("text", PLANS)
@pytest.mark.parametrize(("n_new", "n_past"), [(9, 0), (1, PAST)])
def test_a_placed_model_returns_the_bits_of_the_plain_one(text: str, n_new: int, n_past: int, tmp_path: Path):
    plain = model_of()
    given = inputs(plain, n_new, n_past)
    logits, hidden, caches = plain(*given)
    found_logits, found_hidden, found_caches = placed_model(text, tmp_path)(*given)
    assert torch.equal(found_logits, logits)
    assert torch.equal(found_hidden, hidden)
    assert all(torch.equal(a, b) for a, b in zip(found_caches, caches, strict=True))


@pytest.mark.parametrize("text", PLANS)
@pytest.mark.parametrize(("phase", "n_new", "n_past"), [("prefill", 9, 0), ("decode", 1, PAST)])
def test_what_crosses_is_what_the_pass_says(text: str, phase: str, n_new: int, n_past: int, tmp_path: Path):
    model = placed_model(text, tmp_path, dtype=torch.bfloat16)  # as graphs are emitted
    model(*inputs(model.model, n_new, n_past))
    assert model.crossed_bytes == wanted_bytes(text, phase, n_new, n_past)


@pytest.mark.parametrize("key", OTHERS)
def test_models_of_other_parts_cross_and_answer_alike(key: str, tmp_path: Path):
    blueprint = OTHERS[key]
    text = "layers:1-2=gpu,layers:3=disk,embedding=gpu,rest=cpu"
    plain = model_of(blueprint, torch.bfloat16)
    given = inputs(plain, 1, PAST)
    model = placed_model(text, tmp_path, blueprint, dtype=torch.bfloat16)
    assert torch.equal(model(*given)[0], plain(*given)[0])
    assert model.crossed_bytes == wanted_bytes(text, "decode", 1, PAST, blueprint)
    stored = weight_bytes_by_place(placed_graph(text, blueprint=blueprint))
    assert model.read_bytes == stored[Place.DISK]


parts = ["embedding", "head", *(f"layers:{i}" for i in range(4)), *(f"experts:{i}" for i in range(1, 4))]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["cpu", "gpu"]), min_size=len(parts), max_size=len(parts)))
def test_any_plan_crosses_what_the_pass_says(places: list[str]):
    text = ",".join(f"{part}={place}" for part, place in zip(parts, places, strict=True))
    model = placed_model(text, dtype=torch.bfloat16)
    model(*inputs(model.model, 1, PAST))
    assert model.crossed_bytes == wanted_bytes(text, "decode", 1, PAST)


def test_what_is_read_from_disk_are_the_weights_that_the_pass_puts_there(tmp_path: Path):
    text = "layers:1-2=disk,experts:3=disk,head=disk,rest=cpu"
    model = placed_model(text, tmp_path, dtype=torch.bfloat16)
    stored = weight_bytes_by_place(placed_graph(text))[Place.DISK]
    for n_steps in (1, 2):
        model(*inputs(model.model, 1, PAST))
        assert model.read_bytes == n_steps * stored


def test_weights_on_disk_are_in_memory_during_a_call_only(tmp_path: Path):
    model = placed_model("layers:1=disk,rest=cpu", tmp_path)
    for _ in range(2):
        assert sum(weight.numel() for weight in model.model.layers[1].parameters()) == 0
        model(*inputs(model.model, 1, PAST))
    assert [file.name for file in tmp_path.iterdir()] == ["layer_1.safetensors"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_place_without_a_device_is_refused_with_the_way_out():
    with pytest.raises(InputError, match="gpu=cpu"):
        PlacedModel(model_of(), PlacementPlan.parse("layers:0=gpu,rest=cpu"), devices_at_hand())


def test_a_disk_without_a_folder_is_refused():
    with pytest.raises(InputError, match="folder"):
        placed_model("rest=disk")


def test_activations_follow_the_layers_on_a_machine_of_two_devices():
    """Here `meta` plays the second device: a kernel that met tensors of both would fail."""
    meta = ON_CPU | {Place.GPU: torch.device("meta")}
    model = PlacedModel(model_of(), PlacementPlan.parse("layers:2-3=gpu,head=gpu,rest=cpu"), meta)
    logits, _, caches = model(*inputs(model_of(), 1, PAST))
    assert [cache.device.type for cache in caches] == ["cpu", "cpu", "meta", "meta"]
    assert logits.device.type == "meta"
