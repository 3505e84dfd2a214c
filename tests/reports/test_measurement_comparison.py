from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="measuring needs the extra `reference`")

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError
from model_graphs.graph import OperatorGraph
from model_graphs.runs.measurement import MeasuredStep
from model_graphs.runs.records import StepRun
from reference_impl.measurement.request import MeasurementRequest
from reference_impl.measurement.steps import measure_step
from reports.cli.main import main
from reports.measurement_comparison import check_comparable, compare_with_system, measured_graph
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator

REQUEST = MeasurementRequest(
    "deepseek-v3", past_tokens=64, batch=2, n_layers=4, repeats=1, warm_up=1, n_threads=1, dtype="bf16"
)


@pytest.fixture(scope="module")
def step() -> MeasuredStep:
    return measure_step(REQUEST)


@pytest.fixture(scope="module")
def graph() -> OperatorGraph:
    return measured_graph(REQUEST)


def lasting(step: MeasuredStep, seconds: dict[str, float]) -> MeasuredStep:
    """The step with every span as long as the table says."""
    spans = tuple(replace(span, start_s=0.0, end_s=seconds[span.name]) for span in step.run.spans)
    return replace(step, run=StepRun(spans, 1.0, 1))


def test_a_step_at_twice_its_price_has_the_ratio_two_in_every_kind(
    step: MeasuredStep, graph: OperatorGraph
) -> None:
    library = KernelLibrary(load_system("h100_sxm"), "vllm")
    point = {"B": 2.0, "S": 1.0, "T": 64.0}
    priced = {
        f"{block.name}.{i}.{op.name}": float(price_operator(library, op, point).latency_s)
        for block, i, op in graph.instances()
    }
    double = lasting(step, {name: 2 * seconds for name, seconds in priced.items()})
    kinds = compare_with_system(double, graph, "h100_sxm", "vllm")
    assert [one.ratio for one in kinds] == pytest.approx([2.0] * len(kinds))
    assert sum(one.n_calls for one in kinds) == len(step.run.spans)
    exact = compare_with_system(lasting(step, priced), graph, "h100_sxm", "vllm")
    assert all(one.n_inside == one.n_calls for one in exact)
    far = compare_with_system(
        lasting(step, {n: 100 * s for n, s in priced.items()}), graph, "h100_sxm", "vllm"
    )
    assert not any(one.n_inside for one in far)


def test_a_step_of_another_graph_is_refused(step: MeasuredStep) -> None:
    other = measured_graph(replace(REQUEST, n_layers=3))
    with pytest.raises(InputError, match="the graph's operators"):
        compare_with_system(step, other, "h100_sxm", "vllm")


def test_only_steps_that_a_system_prices_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_comparable("cuda", "bf16")
    out = tmp_path / "step.json"
    assert main(["measure", "--validate", "h100_sxm", "--out", str(out)]) == 2
    printed = capsys.readouterr().err
    assert "--device  must be cuda" in printed
    assert "--dtype  must be bf16" in printed
    assert not out.exists()
