from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_specs.records.errors import InputError
from model_graphs.placement import (
    Part,
    Place,
    PlacementPlan,
    PlacementRule,
    layers_on_gpu,
    read_mapping,
    read_plan,
    resolve_placement,
)

CPU, GPU, DISK = Place.CPU, Place.GPU, Place.DISK
#: a dense layer, then three with routed experts
LAYERS = (False, True, True, True)


def resolved(text: str):
    return resolve_placement(PlacementPlan.parse(text), LAYERS)


def problems_of(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        resolved(text)
    return [str(problem) for problem in caught.value.problems]


def test_rules_place_every_part_and_experts_without_a_rule_stay_with_their_layer():
    found = resolved("layers:0-1=gpu,layers:2=disk,rest=cpu")
    assert (found.embedding, found.head) == (CPU, CPU)
    assert found.layers == (GPU, GPU, DISK, CPU)
    assert found.experts == (None, GPU, DISK, CPU)


def test_experts_leave_their_layers_where_a_rule_says_so():
    assert resolved("experts=cpu,rest=gpu").experts == (None, CPU, CPU, CPU)
    assert resolved("experts:2-3=disk,rest=gpu").experts == (None, GPU, DISK, DISK)


def test_every_rule_that_cannot_be_read_is_named():
    with pytest.raises(InputError) as caught:
        PlacementPlan.parse("layer:0-3=gpu, experts=gpus, layers 4=cpu")
    assert [problem.suggestion for problem in caught.value.problems] == ["layers", "gpu", ""]


def test_what_has_no_place_is_named_with_its_layers():
    assert problems_of("layers:1-2=gpu") == [
        "placement  must have exactly one place; embedding has no place",
        "placement  must have exactly one place; layers 0, 3 has no place",
        "placement  must have exactly one place; head has no place",
    ]


def test_what_has_two_places_is_named_even_when_they_agree():
    (problem,) = problems_of("layers:0-2=gpu,layers:2-3=gpu,rest=cpu")
    assert "layer 2 has more than one place" in problem
    (problem,) = problems_of("experts=gpu,experts:1=cpu,rest=cpu")
    assert "experts of layer 1 has more than one place" in problem
    (problem,) = problems_of("rest=cpu,rest=gpu,layers=cpu,head=cpu")
    assert "embedding has more than one place" in problem


def test_ranges_beyond_the_model_backwards_or_on_other_parts_are_all_named():
    found = problems_of("layers:0-4=gpu,layers:3-1=cpu,head:0=cpu,rest=cpu")
    assert len(found) == 3
    assert "must end by layer 3" in found[0]
    assert "must not be after its last" in found[1]
    assert "a range belongs to layers or experts" in found[2]


def test_experts_of_a_dense_layer_are_refused_and_of_a_dense_model_too():
    (problem,) = problems_of("experts:0-1=cpu,rest=gpu")
    assert "layer 0" in problem
    with pytest.raises(InputError, match="routed experts"):
        resolve_placement(PlacementPlan.parse("experts=cpu,rest=gpu"), (False, False))


def test_a_file_says_the_same_as_a_text(tmp_path: Path):
    file = tmp_path / "plan.yaml"
    file.write_text(
        "schema_version: 1\nrules:\n"
        "  - {what: layers, first: 0, last: 1, where: gpu}\n  - {what: rest, where: cpu}\n"
    )
    assert read_plan(str(file)) == read_plan("layers:0-1=gpu,rest=cpu")


def test_a_wrong_file_is_refused_at_every_line(tmp_path: Path):
    file = tmp_path / "plan.yaml"
    file.write_text(
        "schema_version: 1\nrules:\n  - {what: layer, where: gpu}\n  - {what: head, place: cpu}\n"
    )
    with pytest.raises(InputError) as caught:
        read_plan(str(file))
    assert {problem.line for problem in caught.value.problems} == {3, 4}


def test_half_a_range_is_refused():
    plan = PlacementPlan(rules=(PlacementRule(what=Part.LAYERS, where=GPU, first=1),))
    with pytest.raises(InputError, match="must be given together"):
        resolve_placement(plan, LAYERS)


@given(st.integers(0, 6))
def test_more_layers_on_the_gpu_are_as_many_layers_on_the_gpu(n_gpu: int):
    found = resolve_placement(layers_on_gpu(n_gpu, 6), (True,) * 6)
    assert found.layers.count(GPU) == n_gpu
    assert found.layers == tuple(sorted(found.layers))  # cpu before gpu: the stream crosses at most once
    assert found.head is (GPU if n_gpu else CPU)
    assert found.embedding is (GPU if n_gpu == 6 else CPU)


def test_a_plan_is_written_as_it_is_read():
    text = "layers:0-11=gpu,experts=cpu,rest=disk"
    assert str(PlacementPlan.parse(text)) == text
    assert PlacementPlan.parse(str(PlacementPlan.parse("layers:7=gpu"))) == PlacementPlan.parse(
        "layers:7=gpu"
    )


def test_a_mapping_is_read_whole_or_refused_with_all_that_is_wrong():
    assert read_mapping(["gpu=cpu", "disk=cpu"]) == {GPU: CPU, DISK: CPU}
    with pytest.raises(InputError) as caught:
        read_mapping(["gpu=cpu", "gpu", "tpu=cpu"])
    assert [problem.given for problem in caught.value.problems] == ["gpu", "tpu=cpu"]
