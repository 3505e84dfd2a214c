"""GEMM on processors without a matrix unit."""

from dataclasses import replace

import numpy as np
import pytest

from hardware_specs.library import load_system
from simulator.costs.decode import DecodeConstants
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmConstants, GemmShape, gemm_latency
from simulator.costs.vector_cores import on_vector_cores


def seconds(system: str, constants: GemmConstants, rows: int, width: int) -> float:
    device = DeviceFigures.from_system(load_system(system))
    one, side = np.array([float(rows)]), np.array([float(width)])
    shape = GemmShape(one, side, side, element_bytes=2.0)
    return float(gemm_latency(shape, device.peak("bf16"), device, constants).latency_s[0])


def test_a_gpu_and_a_processor_with_a_matrix_unit_keep_their_constants() -> None:
    constants = GemmConstants()
    for architecture in ("hopper", "cdna3", "sapphire_rapids"):
        assert on_vector_cores(constants, architecture) is constants
    decode = DecodeConstants()
    assert on_vector_cores(decode, "zen5") is decode


@pytest.mark.parametrize("system", ["cpu_epyc_9575f", "cpu_epyc_9175f", "cpu_grace"])
def test_one_row_on_vector_cores_is_bound_by_memory(system: str) -> None:
    device = DeviceFigures.from_system(load_system(system))
    borrowed = GemmConstants()
    own = on_vector_cores(borrowed, device.architecture)
    # 8192 x 8192 weights of two bytes
    bound_s = 2 * 8192**2 / (own.bandwidth_efficiency * device.bandwidth_bytes_per_s)
    assert bound_s < seconds(system, own, 1, 8192) < 1.4 * bound_s
    assert seconds(system, own, 1, 8192) < 0.9 * seconds(system, borrowed, 1, 8192)


@pytest.mark.parametrize("system", ["cpu_epyc_9575f", "cpu_grace"])
def test_many_rows_on_vector_cores_are_bound_by_their_peak(system: str) -> None:
    device = DeviceFigures.from_system(load_system(system))
    own = on_vector_cores(replace(GemmConstants(), launch_s=0.0), device.architecture)
    bound_s = 2 * 4096**3 / device.peak("bf16")
    assert bound_s < seconds(system, own, 4096, 4096) < 1.6 * bound_s
