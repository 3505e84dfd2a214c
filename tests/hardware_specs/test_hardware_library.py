from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from hardware_specs.checks import assumptions_of, check_file
from hardware_specs.forms import Form
from hardware_specs.library import (
    PARTS,
    Library,
    library,
    list_systems,
    load_device,
    load_link,
    load_memory,
    load_node,
    load_prices,
    load_system,
)
from hardware_specs.records.errors import InputError
from hardware_specs.records.quantities import Kind, Quantity

PACKAGE = Path(__file__).resolve().parents[2] / "hardware_specs"
FILES = [file for folder, _ in PARTS.values() for file in sorted((PACKAGE / folder).glob("*.yaml"))]

LINK = """\
schema_version: 1
part: link
key: my_link
name: My link
technology: Ethernet
bandwidth: {value: 100, unit: Gbit/s, source: my switch, kind: datasheet}
latency: {value: 5, unit: us, source: a guess, kind: assumed}
"""


def test_the_canonical_systems_are_there() -> None:
    boards = {
        *(
            "v100_sxm_32gb",
            "a100_sxm_40gb",
            "a100_sxm_80gb",
            "h100_sxm",
            "h200_sxm",
            "h800_sxm",
            "h20",
            "h20_3e",
        ),
        *("b200_sxm", "b300_sxm", "gb200", "gb300", "gh200_96gb", "gh200_144gb", "dgx_spark"),
    }
    cards = {
        *("a100_pcie_40gb", "a100_pcie_80gb", "a30", "a40", "a10g", "rtx_a5000", "l4", "l40s", "rtx_4090"),
        *("h100_pcie", "h100_nvl", "h200_nvl", "rtx_pro_6000", "arc_pro_b60"),
    }
    parts_of_cards = {
        *("a100_pairwise_nvlink", "h100_pairwise_nvlink"),
        *("a100_sxm_80gb_mig_1g10gb", "a100_pcie_80gb_mig_1g10gb"),
    }
    others = {
        *("mi300x", "mi325x", "mi355x", "gaudi3", "igx_orin"),
        *(
            "jetson_agx_orin",
            "jetson_agx_orin_32gb",
            "jetson_orin_nx",
            "jetson_agx_xavier",
            "jetson_agx_thor",
        ),
        *(
            "cpu_xeon_spr",
            "cpu_xeon_6787p",
            "cpu_xeon_6980p",
            "cpu_epyc_9575f",
            "cpu_epyc_9175f",
            "cpu_grace",
        ),
        *("micron_cz120", "xeon_6900p_8x_cz122", "vistara_asic", "turin_2x_vistara"),
        *("spr_cxl_a", "spr_cxl_b", "spr_cxl_c", "spr_cxl_asic_x8", "spr_cxl_asic_x16"),
    }
    assert set(list_systems()) >= boards | cards | parts_of_cards | others | {"article_r1_accelerator"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_shipped_file_is_right_and_every_figure_is_sourced(file: Path) -> None:
    check_file(file)
    key = file.stem
    part = next(part for part, (folder, _) in PARTS.items() if folder == file.parent.name)
    figures = list(figures_in(dict(library().form(PARTS[part][1], key))))
    assert figures
    assert all(figure.source.strip() and isinstance(figure.kind, Kind) for figure in figures)


def figures_in(value: object) -> Iterator[Quantity]:
    if isinstance(value, Quantity):
        yield value
    elif isinstance(value, BaseModel | dict):
        for item in dict(value).values():
            yield from figures_in(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from figures_in(item)


@pytest.mark.parametrize(
    ("alias", "key"),
    [
        ("a100_sxm", "a100_sxm_80gb"),
        ("A100-SXM", "a100_sxm_80gb"),
        ("article-r1-accelerator", "article_r1_accelerator"),
        ("H200_SXM", "h200_sxm"),
        ("a100", "a100_sxm_80gb"),
        ("a100_80gb", "a100_sxm_80gb"),
        ("a100_pcie", "a100_pcie_80gb"),
        ("a100 (pairwise NVLink)", "a100_pairwise_nvlink"),
        ("gh200", "gh200_96gb"),
        ("gb300_nvl72", "gb300"),
        ("amd_mi300x", "mi300x"),
        ("agx_orin", "jetson_agx_orin"),
        ("xeon_spr AMX", "cpu_xeon_spr"),
    ],
)
def test_an_alias_names_the_same_system(alias: str, key: str) -> None:
    assert load_system(alias).key == key


def test_an_unknown_system_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"given h2000_sxm; did you mean h200_sxm\?"):
        load_system("h2000_sxm")


def test_the_parts_of_a_system_are_those_of_their_own_files() -> None:
    system = load_system("h200_sxm")
    assert system.device == load_device("h200_sxm")
    assert system.device.memory == load_memory("hbm3e_h200_141gb")
    assert system.node == load_node("hgx_h200")
    assert system.node.nic == load_link("connectx7_400")
    assert len(system.files) == 11


def test_nvlink_reaches_the_node_or_the_rack_and_the_nic_beyond() -> None:
    h200, gb200 = load_system("h200_sxm"), load_system("gb200")
    assert h200.link_bandwidth_bytes_per_s(8) == 450e9
    assert h200.link_bandwidth_bytes_per_s(16) == 50e9  # one 400 Gbit/s port a device
    assert gb200.devices_per_node == 4
    assert gb200.link_bandwidth_bytes_per_s(72) == 900e9
    assert gb200.link_bandwidth_bytes_per_s(144) == 50e9


def test_every_alias_resolves_to_the_system_that_says_it() -> None:
    named = [(alias, key) for key in list_systems() for alias in load_system(key).cluster.aliases]
    assert len(named) > 20
    assert all(load_system(alias).key == key for alias, key in named)
    assert len({alias.lower() for alias, _ in named}) == len(named)


def test_a_rack_is_one_scale_up_fabric_of_72() -> None:
    for key, nic in (("gb200", 50e9), ("gb300", 100e9)):
        rack = load_system(key)
        assert (rack.devices_per_node, rack.scale_up_devices) == (4, 72)
        assert rack.link_bandwidth_bytes_per_s(72) == 900e9
        assert rack.link_bandwidth_bytes_per_s(73) == nic


def test_bridged_cards_reach_the_next_pair_over_pcie() -> None:
    for key, bridge, pcie in (("a100_pairwise_nvlink", 300e9, 32e9), ("h100_nvl", 300e9, 64e9)):
        pair = load_system(key)
        assert pair.link_bandwidth_bytes_per_s(2) == bridge
        assert pair.link_bandwidth_bytes_per_s(4) == pcie


def test_seven_slices_are_no_more_than_their_gpu() -> None:
    for form in ("sxm", "pcie"):
        slice_, whole = load_device(f"a100_{form}_80gb_mig_1g10gb"), load_device(f"a100_{form}_80gb")
        assert 7 * slice_.n_sm.value <= whole.n_sm.value
        assert 7 * slice_.peak("bf16") <= whole.peak("bf16")
        assert 8 * slice_.memory.bandwidth_bytes_per_s.value == pytest.approx(
            whole.memory.bandwidth_bytes_per_s.value, rel=1e-3
        )
        assert 7 * slice_.memory.capacity_bytes.value < whole.memory.capacity_bytes.value


def test_a_box_without_nvlink_scales_up_over_pcie() -> None:
    for key, bandwidth in (("l40s", 32e9), ("rtx_pro_6000", 64e9), ("arc_pro_b60", 32e9)):
        system = load_system(key)
        assert system.node.scale_up.technology == "PCIe"
        assert system.link_bandwidth_bytes_per_s(8) == bandwidth


def test_a_device_knows_the_peaks_that_it_has() -> None:
    a100, h200 = load_device("a100_sxm_80gb"), load_device("h200_sxm")
    assert h200.peak("fp8_block") == 1978e12
    assert not a100.supports("fp8")
    assert not h200.supports("nvfp4")
    with pytest.raises(InputError, match="compute dtype must be one of bf16, fp32, int8, tf32; given fp8"):
        a100.peak("fp8")


def test_what_the_article_does_not_say_is_assumed_and_said() -> None:
    device = load_device("article_r1_accelerator")
    assert device.peak("fp16") == 1.2e15
    assert device.memory.bandwidth_bytes_per_s.value == 680e9
    assumed = check_file(PACKAGE / "devices/article_r1_accelerator.yaml")
    assert [line.split(" ")[0] for line in assumed] == [
        "sm_count", "clock", "l2_capacity", "dense_peak.fp8", "dense_peak.int8", "tdp", "idle_power",
        "engine.peak.fp8", "engine.peak.int8", "engine.efficiency", "engine.memory_efficiency",
        "engine.launch", "engine.energy_per_mac", "engine.static_power",
        "engine.sparsity.unstructured.index_bits_per_element", "engine.sparsity.unstructured.overhead",
        "engine.decompression", "engine.compression",
    ]  # fmt: skip


def test_prices_are_dated_and_of_known_systems() -> None:
    prices = load_prices()
    assert {quote.system_key for quote in prices} <= set(list_systems())
    assert all(quote.price_usd_per_hour.value > 0 and quote.as_of >= "2026" for quote in prices)
    assert list(prices) == sorted(
        prices, key=lambda quote: (quote.system_key, quote.as_of, quote.market, quote.bound)
    )


def test_a_directory_of_the_user_adds_parts(tmp_path: Path) -> None:
    (tmp_path / "my_link.yaml").write_text(LINK)
    (tmp_path / "scenario.yaml").write_text("name: not a part\n")
    link = Library((tmp_path,)).link("my_link")
    assert link.bandwidth_bytes_per_s.value == 12.5e9  # 100 Gbit/s
    with pytest.raises(InputError, match="must be the key of a link"):
        load_link("my_link")


def test_a_system_may_be_a_cluster_file_of_the_user(tmp_path: Path) -> None:
    text = (PACKAGE / "clusters/h200_sxm.yaml").read_text()
    mine = text.replace("key: h200_sxm", "key: mine").replace("[h200_sxm_141gb]", "[]")
    for file in (tmp_path / "mine.yaml", tmp_path / "clusters/mine.yaml"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(mine)
        assert load_system(str(file)).device == load_device("h200_sxm")
        file.unlink()
    with pytest.raises(InputError, match="must be the key of a system; given mine"):
        load_system(str(tmp_path / "mine.yaml"))


def test_a_directory_of_the_user_replaces_no_part(tmp_path: Path) -> None:
    (tmp_path / "nvlink4.yaml").write_text(LINK.replace("my_link", "nvlink4"))
    with pytest.raises(InputError, match=r"nvlink4\.yaml:3:6  key  must be the key of a new link"):
        Library((tmp_path,))


def test_a_file_must_have_the_name_of_its_key(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(LINK)
    with pytest.raises(
        InputError, match=r"other\.yaml:3:6  key  must be the file's name, other; given my_link"
    ):
        check_file(file)


def test_a_reference_to_nothing_is_a_problem_of_the_file_that_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "my_node.yaml"
    text = (PACKAGE / "nodes/hgx_h200.yaml").read_text()
    file.write_text(
        text.replace("key: hgx_h200", "key: my_node")
        .replace("nvlink4", "nvlink44")
        .replace("h200_sxm", "h201_sxm")
    )
    with pytest.raises(InputError) as caught:
        check_file(file)
    shown = [str(problem).split("my_node.yaml:")[1] for problem in caught.value.problems]
    assert shown == [
        "5:9  device  must be the key of a device; given h201_sxm; did you mean h200_sxm?",
        "11:16  scale_up_link  must be the key of a link; given nvlink44; did you mean nvlink4?",
    ]


def test_check_says_what_will_be_assumed(tmp_path: Path) -> None:
    file = tmp_path / "my_link.yaml"
    file.write_text(LINK)
    assert check_file(file) == ["latency = 5 us (a guess)"]


def test_an_optional_figure_that_is_absent_is_said() -> None:
    form = library().form(PARTS["memory"][1], "article_r1_memory")
    assert isinstance(form, Form)
    assert "efficiency: not given" in list(assumptions_of(form))


def test_the_hash_follows_the_content_and_nothing_else(tmp_path: Path) -> None:
    before = load_system("h200_sxm").content_hash
    for source in FILES:
        text = source.read_text()
        if source.stem in ("h200_sxm", "hgx_h200") and "part: price_list" not in text:
            mine = text.replace("key: h200_sxm", "key: mine").replace("key: hgx_h200", "key: mine")
            mine = mine.replace("node: hgx_h200", "node: mine").replace("device: h200_sxm", "device: mine")
            folder = tmp_path / source.parent.name
            folder.mkdir()
            (folder / "mine.yaml").write_text(mine.replace("aliases: [h200_sxm_141gb]", "aliases: []"))
    same, touched = (Library((tmp_path,)).system("mine").content_hash for _ in range(2))
    assert same == touched != before
    device = tmp_path / "devices/mine.yaml"
    device.write_text("# a comment\n" + device.read_text())
    assert Library((tmp_path,)).system("mine").content_hash == same
    device.write_text(device.read_text().replace("value: 700", "value: 701"))
    assert Library((tmp_path,)).system("mine").content_hash != same
