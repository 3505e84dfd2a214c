"""The layout pass against the reference implementation, exported as one rank of each layout runs it."""

import pytest

from model_graphs.architectures.deepseek import DeepSeekV3Config
from model_graphs.configs import resolve_model
from model_graphs.graph_io import PHASES
from model_graphs.layout import Dispatch, Layout, apply_layout

pytest.importorskip("torch", reason="the reference implementation needs the extra [reference]")

from reference_impl.emission import emit

V3 = resolve_model("deepseek-v3").config

LAYOUTS = {
    "tp2": Layout.of(V3.blueprint, gpus=2, tp=2),
    "tp4": Layout.of(V3.blueprint, gpus=4, tp=4),
    "tp8": Layout.of(V3.blueprint, gpus=8, tp=8),
    "tp8_ep8": Layout.of(V3.blueprint, gpus=8, tp=8, ep=8),
    "tp8_ep4": Layout.of(V3.blueprint, gpus=8, tp=8, ep=4),
    "dp8": Layout.of(V3.blueprint, gpus=8, dp=8),
    "dp8_ep8": Layout.of(V3.blueprint, gpus=8, dp=8, ep=8),
    "tp2_dp4_ep8": Layout.of(V3.blueprint, gpus=8, tp=2, dp=4, ep=8),
    "dp8_ep8_alltoall": Layout.of(V3.blueprint, gpus=8, dp=8, ep=8, dispatch=Dispatch.ALL_TO_ALL),
    "dp64_ep64_alltoall": Layout.of(V3.blueprint, gpus=64, dp=64, ep=64, dispatch=Dispatch.ALL_TO_ALL),
}
QUICK = [
    ("decode", "tp8_ep8"),
    ("decode", "tp2_dp4_ep8"),
    ("prefill", "tp4"),
    ("prefill", "dp64_ep64_alltoall"),
    ("chunked_prefill", "dp8"),
    ("mtp", "tp8"),
]


#: a small model of the family whose widths coincide, so that no rule can tell axes apart by their size
SMALL = V3.model_copy(
    update={
        "hidden_size": 128,
        "intermediate_size": 64,
        "moe_intermediate_size": 64,
        "num_attention_heads": 16,
        "kv_lora_rank": 128,
        "q_lora_rank": 128,
        "n_routed_experts": 16,
        "num_hidden_layers": 5,
    }
)


def assert_pass_equals_export(phase: str, layout: Layout, config: DeepSeekV3Config = V3) -> None:
    exported, passed = (
        emit(config.blueprint, phase, layout),
        apply_layout(emit(config.blueprint, phase), layout),
    )
    for block, other in zip(exported.blocks, passed.blocks, strict=True):
        for operator, rewritten in zip(block.operators, other.operators, strict=True):
            assert rewritten == operator
    assert passed == exported


@pytest.mark.parametrize(("phase", "name"), QUICK)
def test_the_pass_gives_what_a_rank_exports(phase: str, name: str) -> None:
    assert_pass_equals_export(phase, LAYOUTS[name])


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["tp8_ep4", "dp8_ep8_alltoall"])
def test_the_pass_holds_where_widths_coincide(phase: str, name: str) -> None:
    assert_pass_equals_export(phase, LAYOUTS[name], SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("phase", PHASES)
def test_the_pass_gives_what_a_rank_exports_in_every_layout_and_phase(phase: str, name: str) -> None:
    assert_pass_equals_export(phase, LAYOUTS[name])
