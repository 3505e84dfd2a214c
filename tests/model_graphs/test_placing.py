import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.graph_io import graph_from_json, graph_to_json, load_graph
from model_graphs.layout import Layout, apply_layout
from model_graphs.placement import Place, PlacementPlan, layers_on_gpu
from model_graphs.placing import apply_placement, crossing_bytes, weight_bytes_by_place
from model_graphs.precision import apply_precision
from model_graphs.totals import graph_work, weight_bytes_per_rank

RECORD = resolve_model("deepseek-v3")
V3 = load_graph("deepseek-v3", "decode")
NAMES = [layer.name for layer in RECORD.blueprint.layers]
STREAM = 2 * 2 * 7168  # the normalised stream and the residual, bf16


def placed(text: str, graph=V3, names=None):
    return apply_placement(graph, PlacementPlan.parse(text), names or NAMES)


def copies(graph):
    return [(block.name, op.name) for block in graph.blocks for op in block.operators if op.kind == "copy"]


def test_layers_that_alternate_are_placed_in_the_models_order():
    record = resolve_model("gpt-oss-20b")
    names = [layer.name for layer in record.blueprint.layers]
    graph = placed("layers:0-2=gpu,rest=cpu", load_graph(record, "decode"), names)
    inner = [block.name for block in graph.blocks][1:6]
    assert inner == [f"{name}[{i}-{i}]" for i, name in enumerate(names[:5])]
    assert [block for block, _ in copies(graph)] == [inner[0], inner[0], inner[3], inner[3]]


def test_layers_that_are_not_the_graphs_are_refused():
    with pytest.raises(InputError, match="dense_layer"):
        placed("rest=cpu", V3, NAMES[1:])


def test_in_one_place_nothing_crosses_and_the_work_is_the_same():
    for place in Place:
        graph = placed(f"rest={place}")
        assert not copies(graph)
        assert graph_work(graph) == graph_work(V3)
        assert weight_bytes_by_place(graph) == {place: weight_bytes_per_rank(V3)}


def test_a_run_of_layers_is_entered_once_with_both_streams():
    graph = placed("layers:5-9=gpu,rest=cpu")
    entered = [f"moe_layer[{first}-{first}]" for first in (5, 5, 10, 10)]
    assert [block for block, _ in copies(graph)] == entered
    assert {way: str(n) for way, n in crossing_bytes(graph).items()} == {
        ("cpu", "gpu"): f"{STREAM}*B",
        ("gpu", "cpu"): f"{STREAM}*B",
    }
    assert [block.repeat for block in graph.blocks] == [1, 3, 2, 1, 4, 1, 50, 1]


def test_the_head_reads_one_stream():
    assert str(crossing_bytes(placed("head=cpu,rest=gpu"))[("gpu", "cpu")]) == f"{2 * 7168}*B"


def test_experts_away_from_their_layers_take_rows_weights_and_indices_and_give_rows_back():
    crossed = crossing_bytes(placed("experts=cpu,rest=gpu"))
    row, weights, indices = 2 * 7168, 4 * 8, 8 * 8
    assert str(crossed[("gpu", "cpu")]) == f"{58 * (row + weights + indices)}*B"
    assert str(crossed[("cpu", "gpu")]) == f"{58 * row}*B"


def test_disk_is_computed_by_the_cpu_so_that_nothing_crosses_between_the_two():
    assert not copies(placed("layers:0-30=disk,rest=cpu"))
    assert copies(placed("layers:0-30=disk,rest=gpu"))


def test_a_copy_stands_between_its_producer_and_its_reader():
    graph = placed("experts=cpu,rest=gpu")
    for block in graph.blocks:
        for op in block.operators:
            for dep in (dep for dep in op.deps if dep >= 0):
                source = block.operators[dep]
                apart = {source.place, op.place} - {Place.DISK} == {Place.CPU, Place.GPU}
                assert not apart or "copy" in (op.kind, source.kind), (source.name, op.name)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(Place), min_size=63, max_size=63), st.sampled_from(Place))
def test_whatever_the_places_all_weights_have_one_and_all_work_is_done(layers, experts):
    rules = [f"layers:{i}={place}" for i, place in enumerate(layers[:61])]
    graph = placed(",".join([*rules, f"embedding={layers[61]}", f"head={layers[62]}", f"experts={experts}"]))
    assert sum(weight_bytes_by_place(graph).values()) == weight_bytes_per_rank(V3)
    work, whole = graph_work(graph), graph_work(V3)
    assert (work.flop, work.weight_bytes) == (whole.flop, whole.weight_bytes)
    crossed = sum(int(n.evaluate({"B": 1, "T": 1})) for n in crossing_bytes(graph).values())
    assert (
        int((work.activation_write_bytes - whole.activation_write_bytes).evaluate({"B": 1, "T": 1}))
        == crossed
    )
    assert sum(block.repeat for block in graph.blocks) == 63


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60))
def test_each_layer_that_moves_to_the_gpu_takes_its_weights_along(n_gpu):
    fewer, more = (apply_placement(V3, layers_on_gpu(n, 61), NAMES) for n in (n_gpu, n_gpu + 1))
    stored = [weight_bytes_by_place(graph).get(Place.GPU, 0) for graph in (fewer, more)]
    assert stored[1] > stored[0]


def test_the_host_computes_in_bf16_what_the_gpu_computes_in_fp8():
    graph = apply_precision(
        placed("experts=cpu,rest=gpu"), RECORD.storage("fp8"), "bf16", ("bf16", "fp8_block")
    )
    by_kind = {(op.kind, op.place): op for block in graph.blocks for op in block.operators}
    assert by_kind["moe_experts", "cpu"].compute_dtype == "bf16"
    assert by_kind["moe_experts", "cpu"].inputs[0].dtype == "bf16"
    assert ("quantize", "cpu") not in by_kind
    assert ("quantize", "gpu") in by_kind
    weights = {t.dtype for t in by_kind["moe_experts", "cpu"].inputs if t.name.startswith("w_")}
    assert weights == {"fp8_block"}
    assert all(op.place for block in graph.blocks for op in block.operators)


def test_a_placed_graph_survives_its_file():
    graph = placed("layers:0-11=gpu,experts=cpu,rest=cpu")
    assert graph_from_json(graph_to_json(graph)) == graph


def test_graphs_of_several_ranks_and_of_mtp_are_refused():
    wide = apply_layout(V3, Layout.of(RECORD.config.blueprint, gpus=8, tp=8))
    for graph in (wide, load_graph("deepseek-v3", "mtp")):
        with pytest.raises(InputError, match="main model on one device"):
            placed("rest=cpu", graph)
