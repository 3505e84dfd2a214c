from pathlib import Path

import pytest

from hardware_specs.checks import check_file
from hardware_specs.library import Library, load_node, load_system
from hardware_specs.records.errors import InputError

PACKAGE = Path(__file__).resolve().parents[2] / "hardware_specs"
GROUP = """\
  {size}:
    bandwidth: {{value: {bandwidth}, unit: GB/s, source: my nccl-tests, kind: {kind}}}
    latency: {{value: {latency}, unit: us, source: my nccl-tests, kind: assumed}}
"""


def box(folder: Path, *groups: tuple[int, float, float], kind: str = "measured") -> Path:
    """A node like that of the L40S with a table by group size."""
    text = (PACKAGE / "nodes/pcie_l40s_8.yaml").read_text().replace("key: pcie_l40s_8", "key: mine")
    rows = (GROUP.format(size=size, bandwidth=b, latency=late, kind=kind) for size, b, late in groups)
    file = folder / "mine.yaml"
    file.write_text(text.rstrip("\n") + "\nscale_up_by_group:\n" + "".join(rows))
    return file


def test_a_group_has_the_bandwidth_of_the_smallest_described_group_that_holds_it(tmp_path: Path) -> None:
    box(tmp_path, (2, 20, 8), (4, 14, 11), (8, 9, 20))
    node = Library((tmp_path,)).node("mine")
    found = [node.scale_up_of(n) for n in (2, 3, 4, 5, 8)]
    assert [group.bandwidth_bytes_per_s.value / 1e9 for group in found] == [20, 14, 14, 9, 9]
    assert [group.latency_s.value for group in found] == pytest.approx([8e-6, 11e-6, 11e-6, 20e-6, 20e-6])


def test_beyond_the_largest_described_group_its_bandwidth_holds(tmp_path: Path) -> None:
    box(tmp_path, (2, 20, 8), (4, 14, 11))
    assert Library((tmp_path,)).node("mine").scale_up_of(8).bandwidth_bytes_per_s.value == 14e9


def test_a_node_without_the_table_has_the_bandwidth_of_its_link() -> None:
    system = load_system("h200_sxm")
    assert system.node.scale_up_of(4).bandwidth_bytes_per_s == system.node.scale_up.bandwidth_bytes_per_s
    assert system.node.scale_up_of(4).latency_s == load_node("hgx_h200").scale_up.latency_s


def test_a_system_honours_the_table_inside_the_node_only(tmp_path: Path) -> None:
    box(tmp_path, (2, 20, 8), (8, 9, 20))
    cluster = (PACKAGE / "clusters/l40s.yaml").read_text().replace("node: pcie_l40s_8", "node: mine")
    (tmp_path / "own.yaml").write_text(
        cluster.replace("key: l40s", "key: own").replace("aliases", "# aliases")
    )
    system = Library((tmp_path,)).system("own")
    assert [system.link_bandwidth_bytes_per_s(n) / 1e9 for n in (2, 4, 8, 16)] == [20, 9, 9, 25]


def test_a_table_by_group_is_never_assumed_and_of_groups_that_exist(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"scale_up_by_group\.2\.bandwidth\.kind  must be measured, fitted or"
    ):
        check_file(box(tmp_path, (2, 20, 8), kind="assumed"))
    with pytest.raises(InputError, match=r"must be group sizes of 2 to scale_up_count \(8\); given 16"):
        check_file(box(tmp_path, (16, 20, 8)))
