"""A decode step of one sequence on a device without measured kernels reads the weights and says its grade."""

import pytest

from hardware_specs.library import load_system
from hardware_specs.records.evidence import Grade
from simulator.scenario.model import Deployment
from simulator.step_forecast import StepForecast, forecast_step

#: weights that a token reads: 8.03e9 less the rows of the embedding (128,256 x 4,096), in two bytes each
LLAMA_8B_BYTES = 2 * (8.030e9 - 128_256 * 4_096)
#: active weights of a token, most in one byte, without the embedding (129,280 x 7,168)
R1_ACTIVE_BYTES = 37.5e9 - 129_280 * 7_168


def decode(model: str, system: str, tp: int, precision: str) -> StepForecast:
    deployment = Deployment(model=model, system=system, tp=tp, gpus=tp, precision=precision)
    return forecast_step(deployment, "decode", 1, 512)


@pytest.mark.parametrize(
    ("system", "slowest", "grade"),
    [
        ("mi300x", 2.0, Grade.D),
        ("mi355x", 2.2, Grade.D),  # the faster the memory, the more of a step are launches
        ("gaudi3", 1.8, Grade.D),
        ("jetson_agx_orin", 1.5, Grade.C),  # of a generation with measured kernels
        ("jetson_agx_xavier", 1.5, Grade.C),
        ("jetson_agx_thor", 1.5, Grade.C),
        ("cpu_xeon_6980p", 1.6, Grade.D),
        ("cpu_epyc_9575f", 1.6, Grade.D),
        ("cpu_epyc_9175f", 2.0, Grade.D),  # sixteen cores
        ("cpu_grace", 1.6, Grade.D),
        ("spr_cxl_a", 1.6, Grade.D),
    ],
)
def test_a_token_takes_what_the_weights_take_to_be_read(system: str, slowest: float, grade: Grade) -> None:
    step = decode("llama-3.1-8b", system, 1, "bf16")
    bound_ms = 1e3 * LLAMA_8B_BYTES / load_system(system).device.memory.bandwidth_bytes_per_s.value
    assert bound_ms < step.latency.value < slowest * bound_ms
    assert step.latency.grade == grade
    assert step.latency.high > 1.3 * step.latency.value  # of what nobody measured the interval is wide


@pytest.mark.parametrize("system", ["cpu_xeon_6980p", "spr_cxl_a"])
def test_experts_on_a_matrix_unit_of_a_processor_take_what_the_active_ones_take_to_be_read(
    system: str,
) -> None:
    step = decode("qwen3-30b-a3b", system, 1, "bf16")
    bandwidth = load_system(system).device.memory.bandwidth_bytes_per_s.value
    # 3.3e9 active, of which the embedding of 151,936 x 2,048 is not read
    bound_ms = 1e3 * 2 * (3.3e9 - 151_936 * 2_048) / bandwidth
    assert bound_ms < step.latency.value < 2.2 * bound_ms
    assert step.latency.grade == Grade.D


def test_experts_over_a_mesh_take_more_than_their_weights() -> None:
    step = decode("deepseek-r1", "mi300x", 8, "fp8")
    bound_ms = 1e3 * R1_ACTIVE_BYTES / 8 / load_system("mi300x").device.memory.bandwidth_bytes_per_s.value
    assert bound_ms < step.latency.value < 20
    assert step.latency.grade == Grade.D
