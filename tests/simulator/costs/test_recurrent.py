import numpy as np
import pytest

from hardware_specs.library import load_system
from hardware_specs.records.evidence import Grade
from model_graphs.graph import Operator
from model_graphs.graph_io import load_graph
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator, traffic_bytes

MODELS = {
    "mamba2_scan": "nemotron-nano-v2-9b",
    "gated_delta_rule": "qwen3.5-397b-a17b",
    "causal_conv1d": "qwen3.5-397b-a17b",
}


@pytest.fixture(scope="module")
def library() -> KernelLibrary:
    return KernelLibrary(load_system("h200_sxm"), "vllm")


def scan(kind: str, phase: str) -> Operator:
    graph = load_graph(MODELS[kind], phase)
    return next(op for block in graph.blocks for op in block.operators if op.kind == kind)


def test_a_step_of_mamba2_costs_the_bytes_of_its_states(library: KernelLibrary) -> None:
    operator, point = scan("mamba2_scan", "decode"), {"B": 256.0, "S": 1.0, "T": 99.0}
    states = 128 * 80 * 128 * 4
    traffic = traffic_bytes(operator, point)
    assert 2 * 256 * states < traffic < 2.05 * 256 * states
    priced = price_operator(library, operator, point)
    assert priced.latency_s == library.bandwidth_bound(traffic, "mamba2_scan").latency_s


def test_a_step_of_many_states_takes_what_reading_and_writing_them_takes(library: KernelLibrary) -> None:
    states_bytes = 2 * 1024 * 64 * 128 * 128 * 4
    priced = price_operator(library, scan("gated_delta_rule", "decode"), {"B": 1024.0, "S": 1.0, "T": 99.0})
    at_peak_s = states_bytes / library.device.bandwidth_bytes_per_s
    assert 0.95 * at_peak_s < float(priced.latency_s) < 1.4 * at_peak_s


@pytest.mark.parametrize("kind", MODELS)
def test_a_step_does_not_depend_on_the_context(library: KernelLibrary, kind: str) -> None:
    prices = price_operator(library, scan(kind, "decode"), {"B": 8.0, "S": 1.0, "T": np.array([1.0, 1e5])})
    assert np.ptp(prices.latency_s) == 0


def test_the_delta_rule_is_near_a_measured_call(library: KernelLibrary) -> None:
    """vLLM 0.24.0 on H200, 64 heads on 16 of keys: 1.567 ms for one sequence of 32,768 tokens.

    The figure is in aiconfigurator-core 0.12.0, gdn_perf.
    """
    operator = scan("gated_delta_rule", "prefill")
    given = price_operator(library, operator, {"B": 1.0, "S": 32768.0})
    assert float(given.latency_s) == pytest.approx(1.567e-3, rel=0.1)
    assert float(given.low_s) < 1.567e-3 < float(given.high_s)
    assert given.grade is Grade.B


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("kind", ["gated_delta_rule", "causal_conv1d"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_scans_and_convolutions_of_every_engine_are_measured(backend: str, kind: str, phase: str) -> None:
    priced = price_operator(
        KernelLibrary(load_system("b200_sxm"), backend),
        scan(kind, phase),
        {"B": 8.0, "S": 1.0 if phase == "decode" else 512.0, "T": 9.0},
    )
    assert priced.grade is Grade.B


def test_chunks_of_one_head_wait_for_each_other_in_the_delta_rule_alone(library: KernelLibrary) -> None:
    """Two sequences at once take little longer than one where 64 heads leave half of the device idle.

    vLLM 0.24.0 on H200 takes 398 us for one sequence of 8,192 tokens and 404 us for two.
    """
    point = {"B": np.array([1.0, 2.0]), "S": 8192.0}
    delta = price_operator(library, scan("gated_delta_rule", "prefill"), point)
    mamba = price_operator(library, scan("mamba2_scan", "prefill"), point).latency_s
    assert np.all(delta.low_s < [398e-6, 404e-6])
    assert np.all(delta.high_s > [398e-6, 404e-6])
    assert mamba[1] > 1.5 * mamba[0]
