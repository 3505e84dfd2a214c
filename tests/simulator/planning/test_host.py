import pytest

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError
from simulator.planning.host import Host

#: a host of round figures: 100 GB/s, 10 TFLOP/s, a link of 50 GB/s after 2 us, a drive of 5 GB/s
HOST = Host(1e12, 100e9, 10e12, 50e9, 2e-6, 5e9)


def test_an_operator_takes_the_longer_of_its_traffic_and_its_arithmetic():
    assert HOST.compute_s(flop=1e9, traffic_bytes=1e9) == (0.01, "memory")  # 0.1 ms of arithmetic
    assert HOST.compute_s(flop=1e12, traffic_bytes=1e9) == (0.1, "compute")


def test_a_copy_pays_the_links_latency_once():
    assert HOST.copy_s(0) == 2e-6
    assert HOST.copy_s(50e6) == pytest.approx(2e-6 + 1e-3)


def test_a_read_pays_the_drive():
    assert HOST.read_s(10e9) == 2.0


def test_the_host_of_a_system_is_that_of_its_node():
    host = Host.of(load_system("h100_sxm"))
    assert host.memory_bandwidth_bytes_per_s == 2 * 8 * 38.4e9  # two sockets of eight channels of DDR5-4800
    assert host.link_bandwidth_bytes_per_s == 64e9
    assert host.peak_flop_per_s == pytest.approx(2 * 56 * 1024 * 2.0e9, rel=0.01)


def test_a_node_that_leaves_its_host_open_is_refused_with_every_figure():
    with pytest.raises(InputError) as caught:
        Host.of(load_system("a100_sxm_80gb"))
    assert [problem.path.split(".")[1] for problem in caught.value.problems] == [
        "host_memory_bandwidth_bytes_per_s",
        "host_bf16_peak_flop_per_s",
        "storage_bandwidth_bytes_per_s",
    ]
