"""A device described by one file is a system: memory inline, node and cluster assumed and said."""

from pathlib import Path

import pytest

from hardware_specs.checks import check_file
from hardware_specs.library import list_systems, load_device, load_system
from hardware_specs.records.errors import InputError

CARD = """\
schema_version: 1
part: device
key: my_card
name: My card
vendor: Me
architecture: turing
memory:
  technology: GDDR6
  capacity: {value: 16, unit: GB, source: my datasheet, kind: datasheet}
  bandwidth: {value: 320, unit: GB/s, source: my datasheet, kind: datasheet}
sm_count: {value: 40, unit: "1", source: my datasheet, kind: datasheet}
clock: {value: 1.59, unit: GHz, source: my datasheet, kind: datasheet}
l2_capacity: {value: 4, unit: MB, source: my datasheet, kind: datasheet}
dense_peak:
  bf16: {value: 65, unit: TFLOP/s, source: my datasheet, kind: datasheet, note: of fp16}
tdp: {value: 70, unit: W, source: my datasheet, kind: datasheet}
"""


@pytest.fixture
def card(tmp_path: Path) -> Path:
    file = tmp_path / "my_card.yaml"
    file.write_text(CARD)
    return file


def test_one_file_is_a_system(card: Path) -> None:
    system = load_system(str(card))
    assert (system.key, system.node.device_key, system.cluster.key) == (
        "my_card",
        "my_card",
        "default_cluster",
    )
    assert system.device.memory.bandwidth_bytes_per_s.value == 320e9
    assert system.devices_per_node == 8
    assert system.files[2] == str(card)


def test_check_says_what_stands_around_it(card: Path) -> None:
    lines = check_file(card)
    assert {"memory.efficiency: not given", "idle_power: not given"} <= set(lines)
    assert any(line.startswith("node: not given; A server of eight PCIe cards") for line in lines)
    assert any(line.startswith("node.device_count = 8 (") for line in lines)
    assert "node.scale_up_link = pcie4_x16 (defaults/default_node.yaml)" in lines


def test_everything_missing_inside_the_memory_is_said_at_once(card: Path) -> None:
    card.write_text(CARD.replace("capacity: {value: 16,", "capacity: {value: 0,").replace("GB/s", "GBs"))
    with pytest.raises(InputError) as caught:
        check_file(card)
    shown = [str(problem).split("my_card.yaml:")[1] for problem in caught.value.problems]
    assert [line.split("  ")[1] for line in shown] == ["memory.capacity.value", "memory.bandwidth.unit"]
    assert "did you mean GB/s?" in shown[1]


def test_a_memory_may_still_be_named_and_a_wrong_name_is_said(card: Path) -> None:
    inline = CARD[CARD.index("memory:") : CARD.index("sm_count:")]
    card.write_text(CARD.replace(inline, "memory: hbm2e_a100_80gb\n"))
    assert load_system(str(card)).device.memory == load_device("a100_sxm_80gb").memory
    card.write_text(CARD.replace(inline, "memory: hbm2e_a100_81gb\n"))
    with pytest.raises(InputError, match=r"my_card\.yaml:7:9  memory  must be the key of a memory"):
        load_system(str(card))


def test_the_hash_follows_the_file(card: Path) -> None:
    before = load_system(str(card)).content_hash
    card.write_text("# a comment\n" + CARD)
    assert load_system(str(card)).content_hash == before
    card.write_text(CARD.replace("320", "321"))
    assert load_system(str(card)).content_hash != before


def test_a_file_replaces_no_device_and_adds_nothing_to_the_library(card: Path, tmp_path: Path) -> None:
    load_system(str(card))
    assert not {"my_card", "default_cluster"} & set(list_systems())
    taken = tmp_path / "h200_sxm.yaml"
    taken.write_text(CARD.replace("my_card", "h200_sxm"))
    with pytest.raises(InputError, match="must be the key of a new device; given h200_sxm, which exists"):
        load_system(str(taken))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing"):
        load_system(str(tmp_path / "nothing.yaml"))
