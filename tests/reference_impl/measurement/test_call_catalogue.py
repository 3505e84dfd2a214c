import pytest
import torch
from tiny import TINY, positions_of, randomise

from model_graphs.configs import resolve_model
from model_graphs.graph import OperatorGraph
from reference_impl.decoder import build_model
from reference_impl.emission import emit
from reference_impl.kernels import moe_experts
from reference_impl.layers import Layer
from reference_impl.measurement.call_catalogue import catalogue
from reference_impl.measurement.request import MeasurementRequest
from reference_impl.measurement.subject import build_subject, measured_blueprint

BATCH, NEW, PAST = 3, 1, 20
POINT = {"B": BATCH, "S": NEW, "T": PAST}


@pytest.fixture(scope="module")
def decode():
    model = build_model(TINY.blueprint)
    randomise(model)
    ids = torch.randint(TINY.vocab_size, (BATCH, NEW))
    past = [torch.randn(BATCH, PAST, TINY.kv_lora_rank + TINY.qk_rope_head_dim) for _ in model.layers]
    with torch.no_grad():
        return catalogue(model, lambda: model(ids, positions_of(ids, PAST), past, True))


@pytest.fixture(scope="module")
def graph() -> OperatorGraph:
    return emit(TINY.blueprint, "decode")


def test_calls_are_the_operators_of_the_emitted_graph_by_name_kind_and_component(decode, graph):
    wanted = [(f"{b.name}.{i}.{op.name}", op.kind, op.component) for b, i, op in graph.instances()]
    assert [(call.name, call.kind, call.component) for call in decode] == wanted


def test_work_at_a_point_is_that_of_the_graph_but_for_experts_that_nobody_chose(decode, graph):
    for call, (_, _, op) in zip(decode, graph.instances(), strict=True):
        assert call.flop == float(op.causal_flop.evaluate(POINT))
        fields = ("activation_read", "activation_write", "cache_read", "cache_write", "weight")
        moved = {field: float(getattr(op, f"{field}_bytes").evaluate(POINT)) for field in fields}
        scale = 2.0  # the graph is in bf16 and the model in fp32, but for indices and routing weights
        if op.kind in (
            "linear",
            "rmsnorm",
            "add_rmsnorm",
            "silu_mul",
            "add",
            "mla_absorb_q",
            "mla_attention",
        ):
            assert call.traffic_bytes == scale * sum(moved.values()), op.name
        if op.kind == "moe_experts":
            assert call.traffic_bytes < scale * sum(moved.values())


@pytest.mark.parametrize("key", ["gpt-oss-20b", "r1-distill-qwen-1.5b"])
def test_calls_of_other_architectures_have_the_names_and_flop_of_their_graphs(key, tmp_path):
    request = MeasurementRequest(key, past_tokens=PAST, batch=BATCH, phase="chunked_prefill", new_tokens=5)
    record = resolve_model(key)
    subject = build_subject(record, request, tmp_path)
    calls = catalogue(subject.model, subject.step)
    point = {"B": BATCH, "S": 5, "T": PAST}
    graph = emit(measured_blueprint(record, request), "chunked_prefill")
    assert {call.name: (call.kind, call.component, call.flop) for call in calls} == {
        f"{block.name}.{i}.{op.name}": (op.kind, op.component, float(op.causal_flop.evaluate(point)))
        for block, i, op in graph.instances()
    }


def test_of_routed_experts_only_those_that_some_token_chose_are_read():
    width, inter, held = 8, 4, 6

    class Experts(Layer):
        block = ("moe_layer", 0)

        def forward(self, indices: torch.Tensor) -> torch.Tensor:
            x, weights = torch.ones(2, width), torch.ones(2, 2)
            up, down = torch.ones(held, 2 * inter, width), torch.ones(held, width, inter)
            return moe_experts(x, weights, indices, up, down, 0, held)

    layer = torch.nn.Sequential(Experts("moe"))
    (call,) = catalogue(layer, lambda: layer(torch.tensor([[0, 5], [5, 0]])))
    weights_of_one = 4 * (2 * inter * width + width * inter)
    activations = 4 * (2 * width + 2 * 2 + 2 * width) + 8 * 2 * 2
    assert call.traffic_bytes == activations + 2 * weights_of_one


def test_the_model_is_left_without_hooks(decode):
    model = build_model(TINY.blueprint)
    randomise(model)
    ids = torch.zeros(1, 2, dtype=torch.int64)
    catalogue(model, lambda: model(ids, positions_of(ids)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
