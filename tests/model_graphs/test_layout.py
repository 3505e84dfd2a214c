from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.graph import Operator, OperatorGraph, Shard
from model_graphs.graph_io import PHASES, graph_from_json, graph_to_json, load_graph
from model_graphs.layout import Dispatch, Layout, apply_layout
from model_graphs.totals import graph_work, weight_bytes_per_rank

V3 = resolve_model("deepseek-v3").config
POINT = {"B": 8, "S": 16, "T": 512, "R": 0}
DIVISORS = (1, 2, 4, 8, 16)


@cache
def v3_graph(phase: str) -> OperatorGraph:
    return load_graph("deepseek-v3", phase)


def laid_out(phase: str, layout: Layout) -> dict[str, Operator]:
    """Operators of a mixture-of-experts layer by name."""
    graph = apply_layout(v3_graph(phase), layout)
    return {op.name: op for block in graph.blocks if block.name == "moe_layer" for op in block.operators}


def test_one_rank_runs_the_emitted_graph() -> None:
    for phase in PHASES:
        assert apply_layout(v3_graph(phase), Layout.of(V3.blueprint, gpus=1)) == v3_graph(phase)


def test_eight_tensor_parallel_ranks_hold_an_eighth_of_heads_and_widths() -> None:
    ops = laid_out("decode", Layout.of(V3.blueprint, gpus=8, tp=8))
    assert ops["self_attn.q_kv_a_proj"].attrs == {"n": 2112, "k": 7168}  # replicated
    assert ops["self_attn.q_b_proj"].attrs == {"n": 3072, "k": 1536}  # 128 / 8 heads of 192
    assert ops["self_attn.o_proj"].attrs == {"n": 7168, "k": 2048}
    assert str(ops["self_attn.latent_attention"].inputs[0].shape[2]) == "16"
    assert str(ops["self_attn.latent_attention"].cache_read_bytes) == "1152*B*(T + 1)"  # latents are shared
    experts = ops["mlp.routed.experts"]
    assert (experts.attrs["n_local_experts"], experts.attrs["inter"]) == (256, 256)  # 2048 / 8 wide


def test_a_layer_sums_twice_and_the_shared_expert_shares_its_sum() -> None:
    ops = laid_out("decode", Layout.of(V3.blueprint, gpus=8, tp=8, ep=8))
    sums = [name for name, op in ops.items() if op.collective]
    assert sums == ["self_attn.o_proj.all_reduce", "mlp.add_shared.all_reduce"]
    for name in sums:
        meeting = ops[name].collective
        assert meeting is not None
        assert (meeting.op, meeting.group, meeting.n_ranks) == ("all_reduce", "tp", 8)
        assert str(meeting.message_bytes) == "14336*B"  # 7168 bf16 elements a token
    assert ops["mlp.routed.experts"].attrs["n_local_experts"] == 32


def test_data_parallel_attention_gathers_tokens_for_the_experts_and_scatters_the_sum() -> None:
    ops = laid_out("decode", Layout.of(V3.blueprint, gpus=8, dp=8, ep=8))
    gather, scatter = ops["mlp.routed.all_gather"].collective, ops["mlp.routed.reduce_scatter"].collective
    assert gather is not None
    assert scatter is not None
    assert (gather.group, str(gather.message_bytes)) == ("dp", "14336*B")
    assert (scatter.group, str(scatter.message_bytes)) == ("dp", "114688*B")  # eight ranks' tokens
    assert str(ops["mlp.routed.experts"].inputs[0].shape[0]) == "8*B"
    assert str(ops["mlp.shared_experts.gate_up_proj"].inputs[0].shape[0]) == "B"


def test_dispatched_experts_work_on_the_rows_that_arrive() -> None:
    ops = laid_out("decode", Layout.of(V3.blueprint, gpus=64, dp=64, ep=64, dispatch=Dispatch.ALL_TO_ALL))
    sent, returned = (
        ops["mlp.routed.experts.dispatch"].collective,
        ops["mlp.routed.experts.combine"].collective,
    )
    assert sent is not None
    assert returned is not None
    assert (sent.group, sent.n_ranks, str(sent.message_bytes)) == ("ep", 64, "114688*B")  # 8 rows a token
    assert str(returned.message_bytes) == "14336*R"
    experts = ops["mlp.routed.experts.experts"]
    assert str(experts.flop) == str(6 * 7168 * 2048) + "*R"
    assert experts.attrs["n_local_experts"] == 4


def test_the_vocabulary_is_split_and_put_together_again() -> None:
    graph = apply_layout(v3_graph("decode"), Layout.of(V3.blueprint, gpus=8, tp=8))
    first, last = graph.blocks[0].operators, graph.blocks[-1].operators
    assert [op.kind for op in first] == ["embedding", "all_reduce", "rmsnorm"]
    assert [op.kind for op in last] == ["linear", "all_gather"]
    assert str(last[0].outputs[0].shape[-1]) == "16160"
    assert str(last[1].outputs[0].shape[-1]) == "129280"


@pytest.mark.parametrize("phase", PHASES)
@settings(max_examples=25, deadline=None)
@given(tp=st.sampled_from(DIVISORS), dp=st.sampled_from(DIVISORS), ep=st.sampled_from(DIVISORS))
def test_ranks_together_do_the_whole_work_of_what_is_split(phase: str, tp: int, dp: int, ep: int) -> None:
    if tp * dp % ep:
        return
    layout = Layout.of(V3.blueprint, gpus=tp * dp, tp=tp, dp=dp, ep=ep)
    whole, local = v3_graph(phase), apply_layout(v3_graph(phase), layout)
    for block, local_block in zip(whole.blocks, local.blocks, strict=True):
        parts = {op.name: op for op in local_block.operators}
        for op in block.operators:
            n_ranks = 1 if op.shard is Shard.NONE else tp
            factor = dp if op.kind == "moe_route" else 1  # every rank routes every gathered token
            assert parts[op.name].flop * n_ranks == op.flop * factor
            if op.shard is not Shard.NONE and op.kind != "embedding":
                held_by = layout.n_ranks if op.shard is Shard.EXPERT else tp
                assert parts[op.name].weight_bytes * held_by == op.weight_bytes


@settings(max_examples=25, deadline=None)
@given(tp=st.sampled_from(DIVISORS), dp=st.sampled_from(DIVISORS))
def test_wider_layouts_store_less_a_rank(tp: int, dp: int) -> None:
    layout = Layout.of(V3.blueprint, gpus=tp * dp, tp=tp, dp=dp, ep=dp)
    doubled = Layout.of(V3.blueprint, gpus=2 * tp * dp, tp=tp, dp=2 * dp, ep=dp)
    stored = [weight_bytes_per_rank(apply_layout(v3_graph("decode"), each)) for each in (layout, doubled)]
    assert stored[1] < stored[0]


def test_a_laid_out_graph_survives_its_file() -> None:
    layout = Layout.of(V3.blueprint, gpus=8, dp=8, ep=8, dispatch=Dispatch.ALL_TO_ALL)
    graph = apply_layout(v3_graph("chunked_prefill"), layout)
    assert graph_from_json(graph_to_json(graph)) == graph


def test_a_narrower_rank_never_moves_more_bytes() -> None:
    traffic = []
    for tp in DIVISORS:
        work = graph_work(apply_layout(v3_graph("chunked_prefill"), Layout.of(V3.blueprint, gpus=tp, tp=tp)))
        traffic.append((work.weight_bytes.exact(POINT), work.flop.exact(POINT)))
    assert traffic == sorted(traffic, reverse=True)


def test_every_width_that_does_not_divide_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Layout.of(V3.blueprint, gpus=10, tp=3, dp=2, ep=5)
    told = [
        (problem.path, problem.requirement.split(" (")[0], problem.suggestion)
        for problem in caught.value.problems
    ]
    assert told == [
        ("deployment.gpus", "must be a multiple of the 6 devices of a replica", ""),
        (
            "deployment.tp",
            "tp must divide vocab_size 129280 and num_attention_heads 128 and shared_intermediate_size 2048",
            "2",
        ),
        ("deployment.ep", "ep must divide n_routed_experts 256 and tp x dp 6", "2"),
    ]


@pytest.mark.parametrize(
    ("widths", "word"),
    [
        ({"gpus": 8, "tp": 0}, "must be at least 1; given 0"),
        ({"gpus": 16, "tp": 8, "pp": 2}, "pipeline stages are not modelled"),
        ({"gpus": 8, "dp": 8, "dispatch": Dispatch.ALL_REDUCE}, "allreduce needs one attention rank"),
        ({"gpus": 8, "tp": 8, "ep": 8, "dispatch": Dispatch.ALL_TO_ALL}, "alltoall needs tp 1"),
    ],
)
def test_a_layout_that_cannot_run_is_refused(widths: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        Layout.of(V3.blueprint, **widths)
