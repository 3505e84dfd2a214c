"""Which generation stands in for which."""

import pytest

from hardware_specs.library import list_systems, load_system
from simulator.costs.generations import GENERATIONS, distance


@pytest.mark.parametrize("architecture", GENERATIONS)
def test_every_generation_knows_how_far_each_one_is(architecture: str) -> None:
    found = sorted(distance(architecture, known) for known in GENERATIONS)
    assert found == list(range(len(GENERATIONS)))
    assert distance(architecture, architecture) == 0


@pytest.mark.parametrize(
    ("architecture", "near", "far"),
    [
        ("volta", "ampere", "hopper"),
        ("ada", "ampere", "hopper"),
        ("blackwell_rtx", "ada", "blackwell"),  # no tensor memory: its matrix instructions are a warp's
        ("hopper", "blackwell", "ampere"),  # the newer one of two
        ("blackwell", "hopper", "blackwell_rtx"),
    ],
)
def test_a_generation_borrows_from_the_nearer_one(architecture: str, near: str, far: str) -> None:
    assert distance(architecture, near) < distance(architecture, far)


def test_another_vendor_borrows_from_its_own_first_and_lends_last() -> None:
    assert distance("xe2", "xe2") == 0
    assert distance("xe2", "blackwell") < distance("xe2", "ampere")
    assert all(distance("hopper", known) < distance("hopper", "xe2") for known in GENERATIONS)


def test_every_nvidia_gpu_of_the_library_is_of_a_known_generation() -> None:
    devices = [load_system(key).device for key in list_systems() if key != "cpu_grace"]
    assert {one.architecture for one in devices if one.vendor == "NVIDIA"} <= set(GENERATIONS)
