"""Prices of sparse attention: what grows with the past and what does not, and how little is known."""

import numpy as np
import pytest

from hardware_specs.library import load_system
from hardware_specs.records.evidence import Grade
from model_graphs.configs import resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.graph import Operator
from model_graphs.graph_io import load_graph, phases_of
from model_graphs.precision import apply_precision
from model_graphs.storage import Precision
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator

PAST = np.array([64.0, 512.0, 2048.0, 8192.0, 65536.0, 131071.0])
KEYS = ("deepseek-v2", "deepseek-v2-lite", "deepseek-v3.2", "glm-4.5", "glm-4.5-air", "glm-5", "kimi-k2")


@pytest.fixture(scope="module", params=["h200_sxm", "b200_sxm"])
def library(request: pytest.FixtureRequest) -> KernelLibrary:
    return KernelLibrary(load_system(request.param), "sglang")


def operator(name: str, phase: str = "decode", model: str = "deepseek-v3.2") -> Operator:
    graph = apply_precision(load_graph(model, phase), None, "bf16", COMPUTE_DTYPES)
    layer = next(block for block in graph.blocks if block.name == "moe_layer")
    return next(op for op in layer.operators if op.name == f"self_attn.{name}")


def decode_s(library: KernelLibrary, name: str) -> np.ndarray:
    return price_operator(library, operator(name), {"B": 16.0, "T": PAST}).latency_s


@pytest.mark.parametrize("key", KEYS)
def test_every_operator_of_every_phase_has_a_price(key: str) -> None:
    record, priced = resolve_model(key), KernelLibrary(load_system("h200_sxm"), "vllm")
    storage = record.stored.get(Precision.FP8)
    at = {"B": 4.0, "S": 64.0, "T": 1000.0}
    for phase in phases_of(record.blueprint):
        graph = apply_precision(load_graph(record, phase), storage, "bf16", COMPUTE_DTYPES)
        point = at if "S" in graph.symbols else at | {"S": 1.0}
        for block in graph.blocks:
            for op in block.operators:
                latency_s = float(price_operator(priced, op, point).latency_s)
                assert 0 < latency_s < 1, op.name


def test_attention_to_chosen_tokens_stops_growing_with_the_past(library: KernelLibrary) -> None:
    sparse_s = decode_s(library, "sparse_attention")
    assert sparse_s[0] < sparse_s[2]
    np.testing.assert_array_equal(sparse_s[2:], sparse_s[2])


def test_scoring_grows_with_the_past_and_takes_no_less_than_reading_the_keys(library: KernelLibrary) -> None:
    scores_s = decode_s(library, "indexer.scores")
    assert np.all(np.diff(scores_s) > 0)
    keys_bytes = 16 * (PAST + 1) * 128  # 16 sequences, one byte an element
    assert np.all(scores_s > keys_bytes / library.device.bandwidth_bytes_per_s)


def test_at_128k_an_indexer_and_a_choice_take_less_than_dense_attention(library: KernelLibrary) -> None:
    at = {"B": 16.0, "T": 131071.0}
    dense_s = price_operator(library, operator("latent_attention", model="deepseek-v3"), at).latency_s
    sparse_s = sum(
        price_operator(library, operator(name), at).latency_s
        for name in ("indexer.scores", "indexer.best", "sparse_attention")
    )
    assert sparse_s < 0.5 * dense_s


def test_chosen_places_are_worked_on_whether_or_not_so_many_tokens_exist(library: KernelLibrary) -> None:
    """The prefill kernel runs over all 2,048 places: what a row costs does not depend on the past."""
    sparse = operator("sparse_attention", "chunked_prefill")
    at = {"B": 1.0, "S": 512.0, "T": np.array([64.0, 65536.0])}
    latency_s = price_operator(library, sparse, at).latency_s
    assert latency_s[1] == pytest.approx(latency_s[0], rel=0.1)


def test_what_was_measured_is_graded_so_and_one_token_among_chosen_ones_is_not(
    library: KernelLibrary,
) -> None:
    for name in ("indexer.best", "sparse_attention"):
        at = {"B": 1.0, "S": 512.0, "T": 4096.0}
        assert price_operator(library, operator(name, "chunked_prefill"), at).grade is Grade.B
    estimate = price_operator(library, operator("sparse_attention"), {"B": 16.0, "T": 4096.0})
    assert estimate.grade is Grade.D
    assert float(estimate.log_half_width) >= 0.6
    assert "priced as" in estimate.evidence


def test_an_indexer_in_fp8_is_measured_and_one_in_16_bits_is_not(library: KernelLibrary) -> None:
    measured = library.sequences.index_scores(16, 1, 4096, 64, 128)
    assert measured.grade is Grade.B
    assert library.sequences.index_scores(16, 1, 4096, 64, 128, "bf16").grade is Grade.D
