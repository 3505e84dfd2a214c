"""Products on an engine: hand-computed stages, laws, what falls back, and published kernel speeds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hardware_specs.engines import EngineSpec
from hardware_specs.library import load_device, load_system
from model_graphs.configs import resolve_model
from model_graphs.graph import Operator, OperatorGraph
from model_graphs.graph_io import load_graph
from model_graphs.precision import apply_precision
from model_graphs.transforms import pruning_named
from simulator.costs.engine_products import engine_call, weight_elements
from simulator.costs.engines import Engine
from simulator.costs.estimates import BOUNDS
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator

AT = {"B": 1.0, "S": 1.0, "T": 2047.0}
COMPUTE = {"bf16", "int8"}


def decode(precision: str = "bf16", pruning: str = "") -> OperatorGraph:
    record = resolve_model("llama-3.1-8b")
    graph = load_graph(record, "decode")
    return apply_precision(graph, record.storage(precision), "bf16", COMPUTE, pruning_named(pruning))


def down_projection(precision: str = "bf16", pruning: str = "") -> Operator:
    """[14336] by [14336, 4096] for each token."""
    found = [
        op
        for block in decode(precision, pruning).blocks
        for op in block.operators
        if op.kind == "linear" and op.component == "mlp" and int(op.outputs[0].shape[-1].evaluate(AT)) == 4096
    ]
    return found[0]


def engine(key: str, graph: OperatorGraph | None = None, **changes: Any) -> Engine:
    made = Engine.of(load_device(key), graph or decode())
    assert made is not None
    return replace(made, spec=made.spec.model_copy(update=changes))


def seconds(of: Engine, operator: Operator, **at: float) -> float:
    return float(of.price(operator, AT | at).latency_s)


def test_weights_and_products_are_those_of_the_model() -> None:
    # 32 layers of (4096 x 6144 + 4096 x 4096 + 3 x 4096 x 14336), and the head 128256 x 4096
    layers = 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)
    assert weight_elements(decode(), ("linear",)) == layers + 128256 * 4096
    call = engine_call(down_projection(), AT | {"B": 8.0})
    assert (float(call.macs), float(call.elements)) == (8 * 14336 * 4096, 14336 * 4096)
    assert float(call.weight_bytes) == 2 * 14336 * 4096


def test_a_product_on_the_photonic_engine_by_hand() -> None:
    # Weights: 14336 x 4096 x 2 B = 117.44 MB. All but 65536 of 7.5e9 weights are loaded anew at 512 GB/s:
    # 229.4 us and 0.1 us of settling. Tiles: 112 x 32 = 3584, 896 turns of 4 arrays, 2 ns a vector at 90% of
    # 0.5 GHz: 1.99 us. Loading is the longest of the overlapping stages; 1 us launch, 0.1 us conversion.
    photonic = engine("photonic_matrix_engine")
    loaded = 117440512 * (1 - photonic.resident)
    assert seconds(photonic, down_projection()) == pytest.approx(
        1e-6 + 0.1e-6 + 0.1e-6 + loaded / 512e9, rel=1e-9
    )
    estimate = photonic.price(down_projection(), AT)
    assert BOUNDS[int(estimate.bound)] == "operand"
    assert (estimate.grade, float(estimate.log_half_width)) == ("D", 1.0)
    # Energy: 58.72 M products of 1.16 pJ, 117.44 MB at 5 pJ/B, 14336 inputs into 32 tiles each at 2 pJ, 4096
    # outputs of 112 tiles each at 4 pJ.
    expected = 58720256 * 1.16e-12 + loaded * 5e-12 + 14336 * 32 * 2e-12 + 4096 * 112 * 4e-12
    assert photonic.work(down_projection(), AT).energy_j == pytest.approx(expected, rel=1e-9)


def test_stages_that_do_not_overlap_follow_each_other() -> None:
    plain = engine("photonic_matrix_engine")
    serial = engine("photonic_matrix_engine", overlapping=())
    stages = plain._run(down_projection(), AT)[0].stages
    whole = sum(float(stage) for stage in stages.values())
    longest = max(float(stage) for stage in stages.values())
    gain = seconds(serial, down_projection()) - seconds(plain, down_projection())
    assert gain == pytest.approx(whole - longest, rel=1e-9)


def test_weights_that_fit_the_cells_are_not_loaded_and_those_that_do_not_are() -> None:
    graph = decode("int8")
    fits = engine("cim_engine", graph)
    assert fits.resident == 1
    assert fits.work(down_projection("int8"), AT).traffic_bytes < 0.01 * 14336 * 4096
    spec = load_device("cim_engine").engine
    assert spec is not None
    assert spec.array is not None
    chip = spec.array.model_copy(update={"count": replace(spec.array.count, value=64.0)})
    device = replace(load_device("cim_engine"), engine=spec.model_copy(update={"array": chip}))
    one_chip = Engine.of(device, graph)
    assert one_chip is not None
    assert one_chip.resident == pytest.approx(64 * 65536 / weight_elements(graph, ("linear",)))
    assert seconds(one_chip, down_projection("int8")) > 100 * seconds(fits, down_projection("int8"))


@pytest.mark.parametrize(("zeros", "published"), [("0.7", 1.4), ("0.8", 1.7), ("0.9", 2.1)])
def test_the_sparse_engine_has_the_published_speed_over_dense_kernels(zeros: str, published: float) -> None:
    sparse = engine("unstructured_sparse_engine")
    gain = seconds(sparse, down_projection()) / seconds(sparse, down_projection(pruning=zeros))
    assert gain == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize("zeros", ["0.1", "0.3", "0.49"])
def test_below_half_zeros_the_sparse_engine_multiplies_densely(zeros: str) -> None:
    sparse = engine("unstructured_sparse_engine")
    dense, pruned = down_projection(), down_projection(pruning=zeros)
    assert seconds(sparse, pruned) == seconds(sparse, dense)
    assert sparse.work(pruned, AT) == sparse.work(dense, AT)


def test_a_unit_that_multiplies_every_zero_gains_nothing_where_arithmetic_binds() -> None:
    sparse, article = engine("unstructured_sparse_engine"), engine("article_r1_accelerator")
    many = {"B": 8192.0}
    dense, pruned = down_projection(), down_projection(pruning="0.7")
    assert seconds(sparse, dense, **many) == seconds(sparse, pruned, **many)
    # the article's skips zeros in arithmetic too, until its 680 GB/s of activations bind instead
    before, after = (article.price(one, AT | many) for one in (dense, pruned))
    assert (BOUNDS[int(before.bound)], BOUNDS[int(after.bound)]) == ("compute", "memory")
    stored = 14336 * 4096 * (0.3 * 16 + 1) / 8
    fetched_s = (stored + 2 * 8192 * 14336) / (0.78 * 680e9)
    assert float(after.latency_s) == pytest.approx(1e-6 + fetched_s, rel=1e-6)


@pytest.mark.parametrize(
    "key", ["photonic_matrix_engine", "unstructured_sparse_engine", "article_r1_accelerator"]
)
def test_more_rows_never_take_less_time_or_energy(key: str) -> None:
    of, rows = engine(key), np.array([1.0, 2.0, 64.0, 1000.0, 20000.0])
    latency = of.price(down_projection(pruning="0.8"), AT | {"B": rows}).latency_s
    assert np.all(np.diff(latency) >= 0)
    energy = [of.work(down_projection(pruning="0.8"), AT | {"B": float(one)}).energy_j for one in rows]
    assert energy == sorted(energy)


def test_many_points_at_once_are_the_points_one_by_one() -> None:
    of, rows = engine("article_r1_accelerator"), np.array([1.0, 7.0, 300.0])
    together = of.price(down_projection(pruning="0.7"), AT | {"B": rows})
    one_by_one = [seconds(of, down_projection(pruning="0.7"), B=float(row)) for row in rows]
    assert together.latency_s.tolist() == one_by_one
    assert together.bound.shape == (3,)


def test_what_the_engine_does_not_run_is_priced_by_the_digital_unit() -> None:
    system, graph = load_system("photonic_matrix_engine"), decode()
    plain = KernelLibrary(system, "vllm")
    beside = KernelLibrary(system, "vllm", engine=Engine.of(system.device, graph))
    for operator in (op for block in graph.blocks for op in block.operators):
        both = [price_operator(library, operator, AT).latency_s for library in (plain, beside)]
        assert (both[0] == both[1]) == (operator.kind != "linear"), operator.name


def test_a_product_in_a_dtype_that_the_engine_lacks_falls_back() -> None:
    cim = engine("cim_engine", decode("int8"))
    assert cim.runs(down_projection("int8"))
    assert not cim.runs(down_projection("bf16"))


def test_routed_experts_are_two_products_of_the_experts_that_are_hit() -> None:
    record = resolve_model("deepseek-v3")
    graph = apply_precision(load_graph(record, "decode"), None, "bf16", COMPUTE)
    experts = next(op for block in graph.blocks for op in block.operators if op.kind == "moe_experts")
    call = engine_call(experts, {"B": 1.0, "S": 1.0, "T": 0.0})
    into, out = call.products
    assert (into.n, into.k, out.n, out.k) == (4096, 7168, 7168, 2048)
    assert float(into.rows * into.copies) == pytest.approx(8)
    assert float(call.weight_bytes) == pytest.approx(8 * 3 * 7168 * 2048 * 2)


def test_the_form_is_the_only_source_of_the_price() -> None:
    faster = load_device("unstructured_sparse_engine").engine
    assert isinstance(faster, EngineSpec)
    launch = replace(faster.launch, value=0.0)
    plain, quick = engine("unstructured_sparse_engine"), engine("unstructured_sparse_engine", launch=launch)
    gain = seconds(plain, down_projection()) - seconds(quick, down_projection())
    assert gain == pytest.approx(faster.launch.value, rel=1e-6)
