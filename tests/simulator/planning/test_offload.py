import pytest

from hardware_specs.library import load_system
from hardware_specs.records.errors import DoesNotFitError, InputError
from model_graphs.graph_io import load_graph
from model_graphs.placement import Place, PlacementPlan
from model_graphs.totals import weight_bytes_per_rank
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator
from simulator.planning.offload import Offload
from simulator.scenario.model import Deployment
from simulator.step.pricing import operator_work

BF16_R1 = Deployment(model="deepseek-r1", system="h100_sxm", gpus=1, tp=1, precision="bf16", kv_dtype="bf16")
POINT = {"B": 1.0, "S": 1.0, "T": 4095.0}


def offload(precision: str = "fp8", batch: int = 1, phase: str = "decode", length: int = 4096) -> Offload:
    return Offload(BF16_R1.model_copy(update={"precision": precision}), phase, batch, length)


@pytest.fixture(scope="module")
def decode() -> Offload:
    return offload()


@pytest.fixture(scope="module")
def curve(decode):
    return decode.curve(5)


def test_all_on_the_cpu_is_the_sum_of_traffic_over_bandwidth():
    """A decode step of one sequence moves so much more than it computes that memory bounds every operator."""
    found = offload("bf16").step(PlacementPlan.parse("rest=cpu"))
    graph = load_graph("deepseek-r1", "decode")
    head = {"B": 1.0, "S": 1.0, "T": 0.0}
    moved = sum(
        operator_work(op, head if block.name == "head" else POINT).traffic_bytes
        for block, _, op in graph.instances()
    )
    assert found.latency.value == pytest.approx(moved / 614.4e9 * 1e3, rel=1e-6)
    assert set(found.seconds) == {"cpu"}
    assert found.crossing_bytes == 0


def test_what_lies_on_the_gpu_costs_what_its_kernels_cost():
    plan = PlacementPlan.parse("head=gpu,rest=cpu")
    found = offload("bf16").step(plan)
    library = KernelLibrary(load_system("h100_sxm"), BF16_R1.stack)
    (head,) = load_graph("deepseek-r1", "decode").blocks[-1].operators
    latency_s = float(price_operator(library, head, {"B": 1.0, "S": 1.0, "T": 0.0}).latency_s)
    assert found.seconds["gpu"] == pytest.approx(latency_s)
    assert found.seconds["copy"] == pytest.approx(1e-6 + 2 * 7168 / 64e9)
    assert found.crossing_bytes == 2 * 7168


def test_experts_on_the_cpu_are_hit_experts_over_its_bandwidth(decode):
    found = decode.step(PlacementPlan.parse("experts=cpu,rest=gpu"))
    experts = 58 * 8 * 3 * 7168 * 2048  # bytes of eight experts a layer, one each in fp8 but for their scales
    assert found.seconds["cpu"] == pytest.approx(experts / 614.4e9, rel=0.01)
    per_layer_s = 4 * 1e-6 + (7168 * 2 * 2 + 8 * (4 + 8)) / 64e9  # three tensors go, one comes back
    assert found.seconds["copy"] == pytest.approx(58 * per_layer_s, rel=1e-3)


def test_weights_on_disk_are_read_whole_for_every_step(decode):
    found = decode.step(PlacementPlan.parse("layers:60=disk,rest=cpu"))
    assert found.seconds["disk"] == pytest.approx(found.weight_bytes[Place.DISK] / 6.8e9)


def test_parts_add_up_to_the_step_and_spans_run_one_after_the_other(decode):
    found = decode.step(PlacementPlan.parse("layers:55-60=gpu,head=gpu,layers:10=disk,rest=cpu"))
    assert sum(found.seconds.values()) == pytest.approx(found.run.makespan_s)
    ends = [span.end_s for span in found.run.spans]
    starts = [span.start_s for span in found.run.spans]
    assert starts[1:] == pytest.approx(ends[:-1])
    assert {span.stream for span in found.run.spans} == {"compute", "host", "copy"}
    assert all(span.energy_j is None for span in found.run.spans)


def test_weights_and_cache_lie_where_the_layers_do(decode):
    found = decode.step(PlacementPlan.parse("layers:59-60=gpu,rest=cpu"))
    whole = decode.step(PlacementPlan.parse("rest=cpu"))
    assert sum(found.weight_bytes.values()) == whole.weight_bytes[Place.CPU]
    per_layer = 4096 * (512 + 64) * 2  # latents in bf16
    assert found.cache_bytes == {Place.GPU: 2 * per_layer, Place.CPU: 59 * per_layer}


def test_the_curve_goes_from_all_on_the_cpu_to_all_on_the_gpu_and_falls(decode, curve):
    counts = [step.n_gpu_layers for step in curve]
    assert (counts[0], counts[-1]) == (0, 61)
    assert counts == sorted(set(counts))
    latencies = [step.latency.value for step in curve]
    assert latencies == sorted(latencies, reverse=True)
    assert set(curve[0].seconds) == {"cpu"}
    assert set(curve[-1].seconds) == {"gpu"}


def test_the_curve_marks_where_memory_ends(decode, curve):
    most = decode.most_layers_on_gpu()
    fits = {step.n_gpu_layers: step.lack is None for step in curve}
    assert fits[most]
    assert not fits[most + 1]
    # an fp8 mixture layer is 256 x 3 x 7168 x 2048 bytes and about 2% more; the card has 79.6 GiB or 85.5 GB
    assert most == int(85.5e9 * 0.9 // (1.02 * 256 * 3 * 7168 * 2048))


def test_a_plan_that_does_not_fit_names_the_memory_that_is_too_small(decode):
    with pytest.raises(DoesNotFitError, match="GPU"):
        decode.step(PlacementPlan.parse("rest=gpu"))
    crowded = offload("bf16", batch=100_000, length=8192)
    with pytest.raises(DoesNotFitError, match="CPU"):
        crowded.step(PlacementPlan.parse("rest=cpu"))


def test_bf16_does_not_change_what_lies_where_only_how_much():
    wide, narrow = (offload(precision).step(PlacementPlan.parse("rest=cpu")) for precision in ("bf16", "fp8"))
    assert wide.weight_bytes[Place.CPU] == weight_bytes_per_rank(load_graph("deepseek-r1", "decode"))
    assert 1.9 < wide.weight_bytes[Place.CPU] / narrow.weight_bytes[Place.CPU] < 2.0


def test_a_prefill_is_bound_by_the_hosts_arithmetic():
    found = offload(phase="prefill", length=8192).step(PlacementPlan.parse("rest=cpu"))
    bounds = {span.name.split(".", 2)[2]: span.bound for span in found.run.spans}
    assert bounds["mlp.shared_experts.gate_up_proj"] == "compute"
    assert bounds["post_attention_norm"] == "memory"


def test_more_than_one_device_is_refused_with_every_width():
    with pytest.raises(InputError) as caught:
        Offload(BF16_R1.model_copy(update={"gpus": 8, "tp": 8}), "decode", 1, 4096)
    assert [problem.path for problem in caught.value.problems] == ["gpus", "tp"]
