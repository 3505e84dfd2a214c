from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY, positions_of, randomise

from hardware_specs.records.errors import InputError
from model_graphs.placement import Place, PlacementPlan
from model_graphs.placing import apply_placement, crossing_bytes, weight_bytes_by_place
from reference_impl.decoder import build_model
from reference_impl.emission import emit
from reference_impl.placed_model import PlacedModel, devices_at_hand

BATCH, PAST = 2, 12
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


def model_of(seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = build_model(TINY.blueprint, dtype)
    randomise(model)
    return model


def inputs(n_new: int, n_past: int, dtype: torch.dtype = torch.float32):
    torch.manual_seed(7)
    ids = torch.randint(TINY.vocab_size, (BATCH, n_new))
    past = [
        torch.randn(BATCH, n_past, TINY.kv_lora_rank + TINY.qk_rope_head_dim, dtype=dtype)
        for _ in range(TINY.num_hidden_layers)
    ]
    return ids, positions_of(ids, n_past), past if n_past else None, bool(n_past)


@pytest.mark.parametrize("text", PLANS)
@pytest.mark.parametrize(("n_new", "n_past"), [(9, 0), (1, PAST)])
def test_a_placed_model_returns_the_bits_of_the_plain_one(text: str, n_new: int, n_past: int, tmp_path: Path):
    given = inputs(n_new, n_past)
    logits, hidden, caches = model_of()(*given)
    placed = PlacedModel(model_of(), PlacementPlan.parse(text), ON_CPU, tmp_path)
    found_logits, found_hidden, found_caches = placed(*given)
    assert torch.equal(found_logits, logits)
    assert torch.equal(found_hidden, hidden)
    assert all(torch.equal(a, b) for a, b in zip(found_caches, caches, strict=True))


def graph_bytes(text: str, phase: str, point: dict[str, int]) -> dict[tuple[str, str], int]:
    graph = apply_placement(emit(TINY.blueprint, phase), PlacementPlan.parse(text))
    return {way: int(n.evaluate(point)) for way, n in crossing_bytes(graph).items()}


@pytest.mark.parametrize("text", PLANS)
def test_what_crosses_is_what_the_pass_says(text: str, tmp_path: Path):
    dtype = torch.bfloat16  # as graphs are emitted
    for phase, n_new, n_past in (("prefill", 9, 0), ("decode", 1, PAST)):
        placed = PlacedModel(model_of(dtype=dtype), PlacementPlan.parse(text), ON_CPU, tmp_path)
        placed(*inputs(n_new, n_past, dtype))
        assert placed.crossed_bytes == graph_bytes(text, phase, {"B": BATCH, "S": n_new, "T": n_past})


parts = ["embedding", "head", *(f"layers:{i}" for i in range(4)), *(f"experts:{i}" for i in range(1, 4))]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["cpu", "gpu"]), min_size=len(parts), max_size=len(parts)))
def test_any_plan_crosses_what_the_pass_says(decode_graph, places: list[str]):
    text = ",".join(f"{part}={place}" for part, place in zip(parts, places, strict=True))
    placed = PlacedModel(model_of(dtype=torch.bfloat16), PlacementPlan.parse(text), ON_CPU)
    placed(*inputs(1, PAST, torch.bfloat16))
    graph = apply_placement(decode_graph, PlacementPlan.parse(text))
    wanted = {way: int(n.evaluate({"B": BATCH, "T": PAST})) for way, n in crossing_bytes(graph).items()}
    assert placed.crossed_bytes == wanted


@pytest.fixture(scope="module")
def decode_graph():
    return emit(TINY.blueprint, "decode")


def test_what_is_read_from_disk_are_the_weights_that_the_pass_puts_there(decode_graph, tmp_path: Path):
    text = "layers:1-2=disk,experts:3=disk,head=disk,rest=cpu"
    placed = PlacedModel(model_of(dtype=torch.bfloat16), PlacementPlan.parse(text), ON_CPU, tmp_path)
    placed(*inputs(1, PAST, torch.bfloat16))
    graph = apply_placement(decode_graph, PlacementPlan.parse(text))
    assert placed.read_bytes == weight_bytes_by_place(graph)[Place.DISK]
    placed(*inputs(1, PAST, torch.bfloat16))
    assert placed.read_bytes == 2 * weight_bytes_by_place(graph)[Place.DISK]


def test_weights_on_disk_are_in_memory_during_a_call_only(tmp_path: Path):
    model = model_of()
    placed = PlacedModel(model, PlacementPlan.parse("layers:1=disk,rest=cpu"), ON_CPU, tmp_path)
    for _ in range(2):
        assert sum(weight.numel() for weight in model.layers[1].parameters()) == 0
        placed(*inputs(1, PAST))
    assert [file.name for file in tmp_path.iterdir()] == ["layer_1.safetensors"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_place_without_a_device_is_refused_with_the_way_out():
    with pytest.raises(InputError, match="gpu=cpu"):
        PlacedModel(model_of(), PlacementPlan.parse("layers:0=gpu,rest=cpu"), devices_at_hand())


def test_a_disk_without_a_folder_is_refused():
    with pytest.raises(InputError, match="folder"):
        PlacedModel(model_of(), PlacementPlan.parse("rest=disk"), ON_CPU)


def test_a_move_that_is_left_out_is_caught_on_a_machine_with_two_devices():
    """Here `meta` plays the second device: a kernel that met tensors of both would fail."""
    meta = ON_CPU | {Place.GPU: torch.device("meta")}
    placed = PlacedModel(model_of(), PlacementPlan.parse("layers:2-3=gpu,head=gpu,rest=cpu"), meta)
    ids, positions, past, absorbed = inputs(1, PAST)
    logits, _, caches = placed(ids, positions, past, absorbed)
    assert [cache.device.type for cache in caches] == ["cpu", "cpu", "meta", "meta"]
    assert logits.device.type == "meta"
