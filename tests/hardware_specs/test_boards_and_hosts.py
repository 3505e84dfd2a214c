"""Systems whose devices are no cards: meshes, boards that share a memory, processors, memory behind CXL."""

import pytest

from hardware_specs.library import library, list_systems, load_memory, load_system
from hardware_specs.records.quantities import Kind

GIB = 2**30

#: memory -> GiB on the box; what a driver reports is a little less
SOLD_GIB = {
    "hbm3_mi300x_192gb": 192,
    "lpddr4x_agx_xavier_32gb": 32,
    "lpddr5_agx_orin_32gb": 32,
    "lpddr5_agx_orin_64gb": 64,
    "lpddr5_orin_nx_16gb": 16,
    "lpddr5x_agx_thor_128gb": 128,
}

#: processor -> cores, operations of bf16 a core and cycle, base clock in GHz
#: AMX: 16 x 16 x 32 multiply-adds in 16 cycles; two 512-bit units of 32 pairs; two BFMMLA a cycle
PROCESSORS = {
    "cpu_xeon_spr": (56, 16 * 16 * 32 * 2 / 16, 2.0),
    "cpu_xeon_6787p": (86, 16 * 16 * 32 * 2 / 16, 2.0),
    "cpu_xeon_6980p": (128, 16 * 16 * 32 * 2 / 16, 2.0),
    "spr_cxl_a": (32, 16 * 16 * 32 * 2 / 16, 2.1),
    "cpu_epyc_9575f": (64, 2 * 32 * 2, 3.3),
    "cpu_epyc_9175f": (16, 2 * 32 * 2, 4.2),
    "cpu_grace": (72, 2 * 16 * 2, 3.1),
}

#: system with CXL -> share of the DRAM's channels that loaded reads reached in the paper (MICRO 2023)
SHARES = {"spr_cxl_a": 0.46, "spr_cxl_b": 0.47, "spr_cxl_c": 0.20}

BOARDS = [key for key in list_systems() if key.startswith(("jetson_", "igx_"))]
EXPANDED = [key for key in list_systems() if load_system(key).node.expander]


@pytest.mark.parametrize("key", SOLD_GIB)
def test_a_driver_reports_a_little_less_than_is_sold(key: str) -> None:
    assert 0.92 < load_memory(key).capacity_bytes.value / (SOLD_GIB[key] * GIB) < 1


@pytest.mark.parametrize("key", BOARDS)
def test_a_board_has_one_memory_for_processor_and_gpu(key: str) -> None:
    node = load_system(key).node
    memory = load_system(key).device.memory
    assert node.has_unified_memory
    assert node.host_memory_bytes.value == memory.capacity_bytes.value
    # a copy inside one memory reads and writes it
    assert node.host_link.bandwidth_bytes_per_s.value == pytest.approx(
        memory.bandwidth_bytes_per_s.value / 2, rel=1e-3
    )


def test_an_igx_orin_is_an_agx_orin_on_another_board() -> None:
    assert load_system("igx_orin").device == load_system("jetson_agx_orin").device
    assert load_system("igx_orin").node.nic != load_system("jetson_agx_orin").node.nic


@pytest.mark.parametrize(("key", "link_gb_per_s"), [("mi300x", 64), ("mi325x", 64), ("mi355x", 76.8)])
def test_a_group_in_a_mesh_has_a_link_to_each_other_member(key: str, link_gb_per_s: float) -> None:
    system = load_system(key)
    for n_ranks in (2, 4, 8):
        expected = (n_ranks - 1) * link_gb_per_s * 1e9
        assert system.link_bandwidth_bytes_per_s(n_ranks) == pytest.approx(expected)
    assert system.link_bandwidth_bytes_per_s(16) == 50e9  # one port of 400 Gbit/s a device
    assert system.node.scale_up.bandwidth_bytes_per_s.value == pytest.approx(7 * link_gb_per_s * 1e9)


def test_generations_of_one_vendor_are_never_smaller_or_slower() -> None:
    for generations in (("mi300x", "mi325x", "mi355x"),
                        ("jetson_agx_xavier", "jetson_agx_orin", "jetson_agx_thor")):  # fmt: skip
        devices = [load_system(key).device for key in generations]
        for figures in (
            [device.peak("bf16") for device in devices],
            [device.memory.bandwidth_bytes_per_s.value for device in devices],
            [device.memory.capacity_bytes.value for device in devices],
        ):
            assert figures == sorted(figures)


def test_the_cache_beside_the_memory_is_larger_than_the_l2() -> None:
    devices = [load_system(key).device for key in list_systems()]
    beside = [device for device in devices if device.memory_side_cache_bytes]
    assert {device.architecture for device in beside} == {"cdna3", "cdna4"}
    assert all(float(device.memory_side_cache_bytes or 0) == 8 * device.l2_bytes.value for device in beside)


@pytest.mark.parametrize("key", PROCESSORS)
def test_cores_times_operations_times_clock_give_a_processors_peak(key: str) -> None:
    cores, operations, ghz = PROCESSORS[key]
    device = load_system(key).device
    assert device.n_sm.value == cores
    assert device.peak("bf16") == pytest.approx(cores * operations * ghz * 1e9, rel=0.005)
    assert device.peak("int8") == pytest.approx(2 * device.peak("bf16"), rel=0.005)
    assert device.peak_flop_per_s["bf16"].kind is Kind.ASSUMED  # no vendor prints it


def test_the_host_of_a_node_is_the_processor_that_is_a_system_of_its_own() -> None:
    host, device = library().host("epyc_9575f_2s"), load_system("cpu_epyc_9575f").device
    assert host.n_cores.value == device.n_sm.value
    assert host.clock_hz.value == device.clock_hz.value
    assert host.memory_bandwidth_bytes_per_s.value == 2 * device.memory.bandwidth_bytes_per_s.value
    assert float(host.bf16_peak_flop_per_s or 0) == pytest.approx(2 * device.peak("bf16"), rel=0.005)


@pytest.mark.parametrize("key", SHARES)
def test_loaded_reads_of_an_expander_reach_the_published_share_of_its_dram(key: str) -> None:
    expander = load_system(key).node.expander
    assert expander is not None
    # a channel of DDR is eight bytes wide
    channels = expander.n_channels.value * 64 * expander.pin_rate_bytes_per_s.value
    assert expander.bandwidth_bytes_per_s.value == pytest.approx(SHARES[key] * channels, abs=0.005 * channels)


def test_logic_in_an_fpga_reaches_less_of_its_dram_than_an_asic() -> None:
    kinds = {}
    for key in SHARES:
        expander = load_system(key).node.expander
        assert expander is not None
        kinds.setdefault(expander.controller, []).append(SHARES[key])
    assert max(kinds["fpga"]) < min(kinds["asic"])


@pytest.mark.parametrize("key", EXPANDED)
def test_memory_behind_a_link_is_slower_than_the_sockets_own(key: str) -> None:
    system = load_system(key)
    expander, n_expanders = system.node.expander, system.node.n_expanders
    assert expander is not None and n_expanders is not None
    reached = n_expanders.value * expander.bandwidth_bytes_per_s.value
    assert reached < system.device.memory.bandwidth_bytes_per_s.value
    # reads and writes together fill both directions of the link at most
    assert expander.bandwidth_bytes_per_s.value <= 2 * expander.link.bandwidth_bytes_per_s.value
    assert expander.idle_latency_s is None or expander.idle_latency_s.value > 130e-9  # of local DDR5
