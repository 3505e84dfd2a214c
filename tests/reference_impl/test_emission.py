from functools import cache

import pytest
import torch
from counting import KernelCounter
from tiny import TINY, distance, positions_of, randomise

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.expressions import Expression, total
from model_graphs.graph import OperatorGraph, Role, Shard
from model_graphs.graph_io import PHASES, graph_from_json, graph_to_json
from model_graphs.layout import Dispatch, Layout
from reference_impl.decoder import MTPStep, build_model
from reference_impl.emission import emit, emit_layers
from reference_impl.parts.feed_forward import MLP
from reference_impl.phases import export_phase, phase_of

V3 = resolve_model("deepseek-v3").config
FIELDS = (
    "flop",
    "causal_flop",
    "weight_bytes",
    "activation_read_bytes",
    "activation_write_bytes",
    "cache_read_bytes",
    "cache_write_bytes",
)


@cache
def graph(phase: str, layout: Layout | None = None) -> OperatorGraph:
    return emit(V3.blueprint, phase, layout)


def summed(graph: OperatorGraph, field: str) -> Expression:
    return total(getattr(op, field) * block.repeat for block in graph.blocks for op in block.operators)


@pytest.mark.parametrize(
    ("phase", "closed_form"),
    [
        ("prefill", "16384*B*S*(305*S + 4470776)"),
        ("chunked_prefill", "16384*B*S*(1037*(T + S) + 4470776)"),
        ("decode", "16384*B*(1037*(T + 1) + 4470776)"),
    ],
)
def test_flop_of_a_phase_is_its_closed_form(phase, closed_form):
    assert summed(graph(phase), "flop") == Expression.parse(closed_form)


def test_flop_at_the_published_points():
    assert summed(graph("prefill"), "flop").exact({"B": 1, "S": 4096}) == 383_866_460_176_384
    assert summed(graph("decode"), "flop").exact({"B": 64, "T": 4095}) == 9_141_829_500_928


def test_prefill_flop_equals_the_flop_counter_on_transformers_to_the_last_one():
    from parity import hf_config
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import DeepseekV3ForCausalLM

    with torch.device("meta"):
        hf = DeepseekV3ForCausalLM(hf_config(V3)).eval()
    hf.set_experts_implementation("batched_mm")
    hf.set_attn_implementation("eager")
    ids = torch.zeros(1, 4096, dtype=torch.int64, device="meta")
    mask = torch.zeros(1, 1, 4096, 4096, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hf(ids, attention_mask=mask, position_ids=ids, use_cache=False)
    given = summed(graph("prefill"), "flop").exact({"B": 1, "S": 4096})
    assert given == counter.get_total_flops() == 383_866_460_176_384


def test_parameters_equal_those_of_transformers():
    from parity import hf_config
    from transformers import DeepseekV3ForCausalLM

    model = build_model(V3.blueprint, torch.bfloat16, "meta")
    mtp = sum(p.numel() for p in model.mtp.parameters())
    main = sum(p.numel() for p in model.parameters()) - mtp
    with torch.device("meta"):
        hf = DeepseekV3ForCausalLM(hf_config(V3))
    assert main == sum(p.numel() for p in hf.parameters()) == 671_026_404_352
    assert mtp == 11_610_067_968


def test_a_token_caches_70_272_bytes():
    assert summed(graph("decode"), "cache_write_bytes") == Expression.parse("70272*B")
    assert summed(graph("decode"), "cache_read_bytes") == Expression.parse("70272*B*(T + 1)")
    assert summed(graph("prefill"), "cache_write_bytes") == Expression.parse("70272*B*S")


def test_a_step_reads_every_weight_but_the_embedding_table_once():
    # 2 bytes a parameter outside the embedding of 129280 x 7168, 58 x 256 fp32 biases, and the rows gathered
    weights = (671_026_404_352 - 129_280 * 7168) * 2 + 58 * 256 * 4
    for phase, tokens in (("prefill", "B*S"), ("decode", "B")):
        assert summed(graph(phase), "weight_bytes") == Expression.parse(f"{weights} + 14336*{tokens}")


def test_causal_flop_is_half_of_dense_attention_and_all_of_the_rest():
    # 61 layers x 128 heads x 2 x (192 + 128) = 4,997,120 FLOP a pair; S^2 pairs against S (S + 1) / 2
    prefill = graph("prefill")
    masked = summed(prefill, "flop").exact({"B": 1, "S": 4096}) - summed(prefill, "causal_flop").exact(
        {"B": 1, "S": 4096}
    )
    assert masked == 4_997_120 * (4096 * 4095 // 2)
    decode = graph("decode")
    at = {"B": 3, "T": 1000}
    assert summed(decode, "flop").exact(at) == summed(decode, "causal_flop").exact(at)


@pytest.mark.parametrize("phase", PHASES)
def test_layers_of_a_kind_are_alike(phase):
    config = TINY.model_copy(update={"num_hidden_layers": 7, "first_k_dense_replace": 3})
    unrolled, folded = emit_layers(config.blueprint, phase), emit(config.blueprint, phase).blocks
    again = [(b.name, b.operators) for b in folded for _ in range(b.repeat)]
    assert [(b.name, b.operators) for b in unrolled] == again


@pytest.mark.parametrize("absorbed", [False, True], ids=["prefill", "chunked_prefill"])
def test_a_forward_pass_of_all_61_layers_makes_the_calls_that_the_graph_says(absorbed):
    at = {"B": 2, "S": 5, "T": 11}
    model = build_model(V3.blueprint, torch.bfloat16, "meta")
    ids = torch.zeros(2, 5, dtype=torch.int64, device="meta")
    past = [torch.empty(2, 11, 576, dtype=torch.bfloat16, device="meta")] * 61 if absorbed else None
    with torch.no_grad(), KernelCounter() as counter:
        model(ids, ids, past, absorbed)
    emitted = graph("chunked_prefill" if absorbed else "prefill")
    assert [kind for kind, _ in counter.calls] == [op.kind for _, _, op in emitted.instances()]
    for field in FIELDS:
        assert counter.total(field) == summed(emitted, field).exact(at), field


def tiny_inputs(phase: str, n_sequences: int, n_new: int, n_past: int) -> tuple:
    ids = torch.randint(0, TINY.vocab_size, (n_sequences, n_new))
    past = [torch.randn(n_sequences, n_past, 32 + 8) for _ in range(TINY.num_hidden_layers)]
    positions = positions_of(ids, 0 if phase == "prefill" else n_past)
    if phase == "mtp":
        return ids, torch.randn(n_sequences, n_new, TINY.hidden_size), positions, past[0], True
    return ids, positions, *((None, False) if phase == "prefill" else (past, True))


@pytest.mark.parametrize("phase", PHASES)
@torch.no_grad()
def test_an_exported_phase_runs_at_other_sizes_exactly_as_the_model(phase):
    torch.manual_seed(0)
    model = build_model(TINY.blueprint)
    randomise(model)
    program = export_phase(phase_of(model, phase)).module()
    root = MTPStep(model) if phase == "mtp" else model
    one_token = phase in ("decode", "mtp")
    for n_sequences, n_new, n_past in ((3, 7, 5), (1, 12, 40)):
        inputs = tiny_inputs(phase, n_sequences, 1 if one_token else n_new, n_past)
        assert distance(program(*inputs)[0], root(*inputs)[0]) == 0.0


@pytest.mark.parametrize("phase", PHASES)
def test_a_graph_survives_its_file_and_declares_what_it_uses(phase):
    assert graph_from_json(graph_to_json(graph(phase))) == graph(phase)
    assert graph(phase).symbols == {"prefill": ("B", "S"), "chunked_prefill": ("B", "S", "T")}.get(
        phase, ("B", "T")
    )


def test_shards_and_components_are_those_of_the_layers():
    operators = {op.name: op for op in graph("decode").blocks[2].operators}
    assert operators["self_attn.q_kv_a_proj"].inputs[1].shape[0] == Expression.parse("2112")
    wanted = {
        "self_attn.q_kv_a_proj": (Shard.NONE, "attention"),
        "self_attn.q_b_proj": (Shard.COLUMN, "attention"),
        "self_attn.latent_attention": (Shard.HEAD, "attention"),
        "self_attn.o_proj": (Shard.ROW, "attention"),
        "mlp.routed.gate": (Shard.NONE, "router"),
        "mlp.routed.experts": (Shard.EXPERT, "moe"),
        "mlp.shared_experts.gate_up_proj": (Shard.COLUMN, "shared_expert"),
        "closing_norm": (Shard.NONE, "norm"),
    }
    assert {name: (operators[name].shard, operators[name].component) for name in wanted} == wanted


def test_dependencies_stay_in_their_block_and_leave_the_shared_expert_free():
    operators = graph("decode").blocks[2].operators
    names = [op.name for op in operators]
    assert all(-1 <= dep < i for i, op in enumerate(operators) for dep in op.deps)
    shared, routed = names.index("mlp.shared_experts.gate_up_proj"), names.index("mlp.routed.experts")
    assert routed not in operators[shared].deps
    assert operators[shared].deps == (names.index("post_attention_norm"),)


def test_the_latent_cache_is_an_operand_with_the_role_of_a_cache():
    operators = {op.name: op for op in graph("decode").blocks[2].operators}
    append, attend = operators["self_attn.kv_append"], operators["self_attn.latent_attention"]
    assert [t.role for t in append.outputs] == [Role.CACHE]
    assert [t.role for t in attend.inputs] == [Role.ACTIVATION, Role.ACTIVATION, Role.CACHE]


def test_an_unknown_phase_names_the_nearest():
    with pytest.raises(InputError, match="did you mean decode"):
        emit(TINY.blueprint, "decoding")


def test_a_model_without_mtp_has_no_mtp_phase():
    with pytest.raises(InputError, match="num_nextn_predict_layers"):
        emit(TINY.model_copy(update={"num_nextn_predict_layers": 0}).blueprint, "mtp")


@pytest.mark.parametrize(
    ("change", "operator"), [(torch.relu, "relu.default"), (lambda y: y * 2.0, "mul.Tensor")]
)
def test_work_outside_kernels_is_refused(monkeypatch, change, operator):
    plain = MLP.forward
    monkeypatch.setattr(MLP, "forward", lambda self, x: change(plain(self, x)))
    with pytest.raises(ValueError, match=f"mlp calls aten.{operator}, which is neither a kernel nor a view"):
        emit(TINY.blueprint, "prefill")


TP8 = Layout.of(V3.blueprint, gpus=8, tp=8)
DP8 = Layout.of(V3.blueprint, gpus=8, dp=8, ep=8)
EP64 = Layout.of(V3.blueprint, gpus=64, dp=64, ep=64, dispatch=Dispatch.ALL_TO_ALL)
EP8 = Layout.of(V3.blueprint, gpus=8, dp=8, ep=8, dispatch=Dispatch.ALL_TO_ALL)
LAYOUTS = {
    "tp 2": Layout.of(V3.blueprint, gpus=2, tp=2),
    "tp 4": Layout.of(V3.blueprint, gpus=4, tp=4),
    "tp 8": TP8,
    "tp 8, ep 8": Layout.of(V3.blueprint, gpus=8, tp=8, ep=8),
    "dp 8, ep 8": DP8,
    "dp 8, ep 8, all-to-all": EP8,
    "dp 64, ep 64, all-to-all": EP64,
}


def collectives(graph: OperatorGraph, block: str) -> list[tuple[str, str, int, str]]:
    operators = next(b for b in graph.blocks if b.name == block).operators
    met = [op.collective for op in operators if op.collective]
    return [(c.op, c.group, c.n_ranks, str(c.message_bytes)) for c in met]


def test_collectives_of_tensor_parallel_ranks():
    decode = graph("decode", TP8)
    reduce = ("all_reduce", "tp", 8, "14336*B")  # 7168 wide, 2 bytes
    assert collectives(decode, "embedding") == [reduce]
    assert collectives(decode, "dense_layer") == [reduce, reduce]
    assert collectives(decode, "moe_layer") == [reduce, reduce]
    assert collectives(decode, "head") == [("all_gather", "tp", 8, "32320*B")]  # 129280 / 8 logits


def test_collectives_of_data_parallel_attention():
    decode = graph("decode", DP8)
    gathered = [("all_gather", "dp", 8, "14336*B"), ("reduce_scatter", "dp", 8, "114688*B")]
    assert collectives(decode, "moe_layer") == gathered
    assert collectives(decode, "dense_layer") == collectives(decode, "head") == []


def test_collectives_of_experts_behind_an_all_to_all():
    decode = graph("decode", EP64)
    assert decode.symbols == ("B", "T", "R")
    sent = [("ep_dispatch", "ep", 64, "114688*B"), ("ep_combine", "ep", 64, "14336*R")]  # 8 rows a token
    assert collectives(decode, "moe_layer") == sent
    experts = next(op for op in decode.blocks[2].operators if op.kind == "moe_experts")
    assert (experts.attrs["n_local_experts"], experts.attrs["topk"]) == (4, 1)
    assert str(experts.flop) == "88080384*R"  # 6 x 7168 x 2048


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_ranks_of_a_layout_share_the_sharded_work_and_weights(name, phase):
    """Sharded operators: the ranks' parts sum to the whole, where a rank of B sequences stands for dp x B."""
    layout = LAYOUTS[name]
    at = {"B": 64 * 6, "S": 32, "T": 77}
    tokens = at["B"] * (at["S"] if phase == "prefill" else 1)
    local = at | {"B": at["B"] // layout.dp, "R": tokens * 8 // layout.n_ranks}
    for kind in ("moe_experts", "attention" if phase == "prefill" else "mla_attention"):
        whole = sum(op.flop.exact(at) for _, _, op in graph(phase).instances() if op.kind == kind)
        rank = sum(op.flop.exact(local) for _, _, op in graph(phase, layout).instances() if op.kind == kind)
        assert rank * layout.n_ranks == whole, kind
    experts = [op for op in graph(phase, layout).blocks[2].operators if op.kind == "moe_experts"]
    # 256 experts of 3 x 7168 x 2048 weights of 2 bytes over all ranks
    assert int(experts[0].weight_bytes) * layout.n_ranks == 256 * 3 * 7168 * 2048 * 2


@pytest.mark.parametrize(("n_dense", "blocks"), [(0, ["moe_layer"]), (4, ["dense_layer"])])
def test_a_model_with_layers_of_one_kind_has_one_block_of_layers(n_dense, blocks):
    emitted = emit(TINY.model_copy(update={"first_k_dense_replace": n_dense}).blueprint, "decode")
    assert [(b.name, b.repeat) for b in emitted.blocks] == [("embedding", 1), (blocks[0], 4), ("head", 1)]
