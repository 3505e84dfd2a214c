import math
from dataclasses import replace

import pytest

from simulator.costs.calibrated import Calibrated, DeviceCalibration
from simulator.costs.decode import DecodeConstants
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmConstants
from simulator.costs.transfer import carried, lent, log_spreads


def target(architecture: str, bandwidth_per_sm: float = 1e10) -> DeviceFigures:
    return DeviceFigures("new", architecture, 100, 1e9, 5e7, 100 * bandwidth_per_sm, {"bf16": 1e15})


def device(name: str, architecture: str, bandwidth_per_sm: float, *kernels: Calibrated) -> DeviceCalibration:
    return DeviceCalibration(name, architecture, bandwidth_per_sm, kernels)


def gemm(on: str, launch_us: float, dtype: str = "bf16", kernel: str = "cublas") -> Calibrated:
    return Calibrated("gemm", dtype, kernel, on, GemmConstants(launch_s=launch_us * 1e-6), 0.1, "made up")


def decode(on: str, block_us: float, kernel: str = "a_gqa", **more: float) -> Calibrated:
    constants = replace(DecodeConstants(block_s=block_us * 1e-6), **more)
    return Calibrated("attention_decode", "bf16", kernel, on, constants, 0.1, "made up")


def test_siblings_lend_the_mean_of_logarithms_near_ones_weighing_more() -> None:
    # same bandwidth a multiprocessor: equal weights, the mean of 2 and 8 is 4
    alike = [device("x", "hopper", 1e10, gemm("x", 2)), device("y", "hopper", 1e10, gemm("y", 8))]
    found = carried(alike, target("hopper"), "gemm", "bf16", ("cublas",))
    assert found is not None
    assert found.constants.launch_s == pytest.approx(4e-6)
    assert found.within_architecture
    # a ratio of e in bandwidth weighs exp(-1): log mean = (ln 2 + exp(-1) ln 8) / (1 + exp(-1))
    apart = [alike[0], device("y", "hopper", math.e * 1e10, gemm("y", 8))]
    found = carried(apart, target("hopper"), "gemm", "bf16", ("cublas",))
    assert found is not None
    expected = (math.log(2) + math.exp(-1) * math.log(8)) / (1 + math.exp(-1))
    assert found.constants.launch_s == pytest.approx(1e-6 * math.exp(expected))


def test_the_nearest_generation_lends_alone() -> None:
    known = [device("a", "ampere", 1e10, gemm("a", 9)), device("h", "hopper", 1e10, gemm("h", 3))]
    found = carried(known, target("blackwell"), "gemm", "bf16", ("cublas",))
    assert found is not None
    assert found.constants.launch_s == pytest.approx(3e-6)
    assert [entry.device for entry in found.lenders] == ["h"]
    assert not found.within_architecture


def test_a_decode_kernel_of_a_new_generation_goes_half_to_its_family_and_half_along_the_trend() -> None:
    ampere = device("a", "ampere", 1e10, decode("a", 8), decode("a", 8, "b_gqa"))
    hopper = device("h", "hopper", 1e10, decode("h", 4), decode("h", 1, "b_gqa"))
    found = carried([ampere, hopper], target("blackwell"), "attention_decode", "bf16", ("a_gqa",))
    assert found is not None
    # family mean of 4 and 1 is 2; half-way from 4 is sqrt(8). Slopes ln(4/8) and ln(1/8): median -1.5 ln 4
    # / 1.5 = ln(1/4); two pairs of two and two of the prior: half of it; half of that is followed
    trend = 0.5 * (2 / 4) * math.log(1 / 4)
    assert found.constants.block_s == pytest.approx(1e-6 * math.sqrt(8) * math.exp(trend))
    assert found.constants.bandwidth_efficiency == pytest.approx(0.85)
    sibling = carried([ampere, hopper], target("hopper"), "attention_decode", "bf16", ("a_gqa",))
    assert sibling is not None
    assert sibling.constants.block_s == pytest.approx(4e-6)


def test_a_dtype_that_nobody_has_borrows_from_the_one_that_stands_in() -> None:
    known = [device("h", "hopper", 1e10, gemm("h", 3, "fp8_block", "trtllm"), gemm("h", 7, "fp8", "vllm"))]
    found = lent(known, target("blackwell"), "gemm", "nvfp4", ("vllm",))
    assert found is not None
    assert found.lenders[0].label == "gemm fp8_block trtllm"
    assert lent(known, target("blackwell"), "moe", "nvfp4", ("cutlass",)) is None


def test_spreads_stay_within_half_and_twice_the_declared_ones() -> None:
    calm = [device("a", "ampere", 1e10, gemm("a", 3)), device("h", "hopper", 1e10, gemm("h", 3))]
    wild = [device("a", "ampere", 1e10, gemm("a", 3)), device("h", "hopper", 1e10, gemm("h", 3000))]
    declared = log_spreads([], GemmConstants, "gemm")["launch_s"]
    assert log_spreads(calm, GemmConstants, "gemm")["launch_s"] == pytest.approx(declared * math.sqrt(2 / 3))
    assert log_spreads(wild, GemmConstants, "gemm")["launch_s"] == pytest.approx(2 * declared)
