import numpy as np
import pytest

from simulator.costs.collectives import (
    RING_OPS,
    NcclConstants,
    nccl_latency,
    nccl_over_nodes_latency,
    op_and_group,
)

PERFECT = NcclConstants(
    launch_s=1e-9,
    rank_s=1e-12,
    simple_s=1e-9,
    low_latency_efficiency=1e-6,
    simple_efficiency=1.0,
    sharpness=20.0,
)
INSIDE, OUTSIDE = 450e9, 50e9
SIZES = np.array([1e3, 1e6, 1e9])


def over_nodes(op: str, nodes: int, sizes: np.ndarray, constants: NcclConstants = PERFECT) -> np.ndarray:
    return nccl_over_nodes_latency(op, 8, nodes, sizes, (INSIDE, OUTSIDE), constants).latency_s


def test_an_all_reduce_over_two_nodes_uses_every_nic() -> None:
    # 1 GB, an eighth a NIC, 2 x 1/2 of it out at 25 GB/s: 5 ms; inside 2 x 7/8 of it at 450 GB/s: 3.89 ms
    slow, fast = (
        nccl_over_nodes_latency("all_reduce", 8, 2, np.array([1e9]), (INSIDE, nic), PERFECT).latency_s[0]
        for nic in (25e9, 50e9)
    )
    assert slow == pytest.approx(5e-3, rel=1e-3)
    assert fast == pytest.approx(2 * 7 / 8 / 450, rel=1e-3)


def test_bus_bandwidth_over_nodes_is_above_the_line_rate_of_a_nic() -> None:
    size = np.array([1e9])
    bus = 2 * 15 / 16 * size / over_nodes("all_reduce", 2, size)
    assert 5 * OUTSIDE < bus[0] < 1.08 * INSIDE


def test_an_all_to_all_over_nodes_is_bound_by_what_leaves_the_node() -> None:
    # half of every rank's gigabyte goes to the other node
    assert over_nodes("all_to_all", 2, np.array([1e9]))[0] == pytest.approx(0.5e9 / OUTSIDE, rel=1e-3)


@pytest.mark.parametrize("op", RING_OPS)
def test_more_nodes_or_more_bytes_never_take_less_time(op: str) -> None:
    of_nodes = [over_nodes(op, nodes, SIZES, NcclConstants()) for nodes in (2, 4, 16)]
    assert np.all(np.diff(of_nodes, axis=0) >= 0)
    assert np.all(np.diff(of_nodes, axis=1) > 0)


@pytest.mark.parametrize("op", RING_OPS)
def test_nodes_cost_more_than_their_fabric_alone(op: str) -> None:
    inside = nccl_latency(op, 8, SIZES, INSIDE, NcclConstants()).latency_s
    assert np.all(over_nodes(op, 2, SIZES, NcclConstants()) > inside * 0.99)


def test_the_name_of_an_entry_says_its_group() -> None:
    assert op_and_group("all_reduce_4") == ("all_reduce", 4)
    assert op_and_group("all_to_all") == ("all_to_all", 0)
    assert op_and_group("trtllm_8") == ("trtllm", 8)
