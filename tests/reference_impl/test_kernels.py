import pytest
import torch
from torch.library import opcheck

from model_graphs.graph import Role
from reference_impl import kernels
from reference_impl.formats import pack
from reference_impl.kernels import KERNELS, Call, Operand


def rand(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def indices(*shape, below):
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(0))


def part(*shape):
    return list(pack(rand(*shape), "int4_g128").parts.values())


#: one call of every kernel that needs no other rank
CALLS = {
    "embedding": (indices(2, 3, below=10), rand(5, 8), 5),
    "rmsnorm": (rand(2, 3, 8), rand(8), 1e-6),
    "add_rmsnorm": (rand(2, 3, 8), rand(2, 3, 8), rand(8), 1e-6),
    "linear": (rand(2, 3, 8), rand(5, 8)),
    "rope": (rand(2, 3, 4, 6), rand(2, 3, 3), rand(2, 3, 3)),
    "rope_qk": (rand(2, 3, 4, 6), rand(2, 3, 2, 6), rand(2, 3, 2), rand(2, 3, 2), False),
    "grouped_attention": (rand(2, 3, 4, 5), rand(2, 7, 2, 10), 0.3, 4, rand(4)),
    "bidirectional_attention": (rand(2, 3, 4, 5), rand(2, 3, 4, 5), rand(2, 3, 4, 5), 0.3),
    "silu_mul": (rand(2, 3, 8),),
    "sigmoid_mul": (rand(2, 3, 8), rand(2, 3, 1)),
    "causal_conv1d": (rand(2, 3, 8), rand(8, 4), rand(8), rand(2, 8, 3)),
    "gated_rmsnorm": (rand(2, 3, 8), rand(2, 3, 8), rand(8), 1e-6, 4, True),
    "mamba2_scan": (
        rand(2, 5, 4, 6),
        rand(2, 5, 4),
        rand(2, 5, 2, 7),
        rand(2, 5, 2, 7),
        rand(4),
        rand(4),
        rand(4),
        rand(2, 4, 6, 7),
        3,
    ),
    "gated_delta_rule": (
        rand(2, 5, 2, 6),
        rand(2, 5, 2, 6),
        rand(2, 5, 4, 7),
        rand(2, 5, 4),
        rand(2, 5, 4),
        rand(4),
        rand(4),
        rand(2, 4, 6, 7),
    ),
    "gelu_mul": (rand(2, 3, 8), "gelu_tanh"),
    "activation": (rand(2, 3, 8), "relu"),
    "scale_queries": (rand(2, 3, 4, 5), rand(2, 3)),
    "layernorm": (rand(2, 3, 8), rand(8), rand(8), 1e-6),
    "add_layernorm": (rand(2, 3, 8), rand(2, 3, 8), rand(8), rand(8), 1e-6),
    "sum_layernorm": (rand(2, 3, 8), rand(2, 3, 8), rand(8), rand(8), 1e-6),
    "image_tokens": (rand(2, 3, 8), rand(8), rand(4, 8)),
    "add": (rand(2, 3), rand(2, 3)),
    "concat": (rand(2, 3, 4), rand(2, 3, 5)),
    "kv_append": (rand(2, 7, 10), rand(2, 3, 6), rand(2, 3, 4)),
    "mla_absorb_q": (rand(2, 3, 4, 5), rand(4 * (5 + 6), 8), 6),
    "mla_absorb_o": (rand(2, 3, 4, 8), rand(4 * (5 + 6), 8), 6),
    "mla_attention": (rand(2, 3, 4, 8), rand(2, 3, 4, 2), rand(2, 7, 10), 0.3),
    "attention": (
        rand(2, 3, 4, 5),
        rand(2, 3, 4, 2),
        rand(2, 7, 4, 5),
        rand(2, 7, 2),
        rand(2, 7, 4, 6),
        0.3,
    ),
    "cast_input": (rand(2, 3, 8),),
    "cast_weight": (rand(5, 8),),
    "cast_linear": (rand(2, 3, 8).bfloat16(), rand(5, 8).bfloat16(), rand(5)),
    "cast_experts": (
        rand(6, 8).bfloat16(),
        rand(6, 2),
        indices(6, 2, below=8),
        rand(4, 10, 8).bfloat16(),
        rand(4, 8, 5).bfloat16(),
        4,
        8,
        "silu",
    ),
    "summed_attention": (
        rand(2, 3, 4, 5),
        rand(2, 3, 4, 2),
        rand(2, 7, 4, 5),
        rand(2, 7, 2),
        rand(2, 7, 4, 6),
        0.3,
        "bf16",
    ),
    "summed_mla_attention": (rand(2, 3, 4, 8), rand(2, 3, 4, 2), rand(2, 7, 10), 0.3, "bf16_compensated"),
    "index_weights": (rand(2, 3, 8), rand(4, 8)),
    "index_scores": (rand(2, 3, 4, 6), rand(2, 3, 4), rand(2, 7, 6)),
    "topk": (rand(2, 3, 7), 4),
    "sparse_mla_attention": (
        rand(2, 3, 4, 8),
        rand(2, 3, 4, 2),
        rand(2, 7, 10),
        indices(2, 3, 4, below=5).to(torch.int32),
        0.3,
    ),
    "moe_route": (rand(6, 8), rand(8, 8), rand(8), 2, 4, 2, 2.5, True),
    "quantize": (rand(2, 3, 128), "int8"),
    "packed_linear": ([rand(2, 3, 8)], part(5, 8), "int4_g128", "bf16", 5, 8, "fp32", torch.float32),
    "packed_experts": (
        [rand(6, 8)],
        rand(6, 2),
        indices(6, 2, below=8),
        part(4, 10, 8),
        part(4, 8, 5),
        "int4_g128",
        "bf16",
        8,
        5,
        4,
        8,
        "fp32",
        torch.float32,
    ),
    "moe_experts": (rand(6, 8), rand(6, 2), indices(6, 2, below=8), rand(4, 10, 8), rand(4, 8, 5), 4, 8),
}
COLLECTIVES = {"all_reduce", "all_gather", "reduce_scatter", "ep_dispatch", "ep_combine"}


def test_every_kernel_is_called_here_or_meets_other_ranks():
    assert KERNELS.keys() == CALLS.keys() | COLLECTIVES


@pytest.mark.parametrize("kind", CALLS)
def test_schema_fake_and_dynamic_shapes_are_right(kind):
    opcheck(getattr(torch.ops.silicast, kind).default, CALLS[kind])


@pytest.mark.parametrize("kind", CALLS)
def test_outputs_are_fresh_and_contiguous(kind):
    out = getattr(kernels, kind)(*CALLS[kind])
    outs = out if isinstance(out, tuple) else (out,)
    storages = {a.untyped_storage().data_ptr() for a in CALLS[kind] if isinstance(a, torch.Tensor)}
    assert all(o.is_contiguous() and o.untyped_storage().data_ptr() not in storages for o in outs)


def test_an_id_of_another_ranks_vocabulary_embeds_to_zero():
    table = rand(5, 8)
    out = kernels.embedding(torch.tensor([4, 5, 9, 10]), table, 5)
    assert out[[0, 3]].abs().max() == 0
    assert torch.equal(out[[1, 2]], table[[0, 4]])


def test_ranks_that_hold_parts_of_the_experts_sum_to_the_whole():
    x, weights, chosen, gate_up, down = (
        rand(6, 8),
        rand(6, 2),
        indices(6, 2, below=4),
        rand(4, 10, 8),
        rand(4, 8, 5),
    )
    whole = kernels.moe_experts(x, weights, chosen, gate_up, down, 0, 4)
    halves = [
        kernels.moe_experts(x, weights, chosen, gate_up[i : i + 2], down[i : i + 2], i, 4) for i in (0, 2)
    ]
    assert torch.allclose(sum(halves), whole, atol=1e-5)


def activation(*shape):
    return Operand(shape, "bf16", 2, Role.ACTIVATION)


def test_causal_attention_counts_the_pairs_that_a_query_sees():
    # 3 new tokens on 4 past: queries see 5 + 6 + 7 = 18 of 3 x 7 = 21 pairs; each 2 x 2 x 4 x (5+2+6)
    call = Call(
        {
            "q_BSHC": activation(2, 3, 4, 5),
            "q_BSHP": activation(2, 3, 4, 2),
            "k_BTHC": activation(2, 7, 4, 5),
            "k_BTP": activation(2, 7, 2),
            "v_BTHV": activation(2, 7, 4, 6),
        },
        (activation(2, 3, 4, 6),),
        {},
    )
    work = KERNELS["attention"].work(call)
    assert (work.flop, work.causal_flop) == (21 * 208, 18 * 208)


def test_a_cache_append_writes_the_new_rows_and_reads_no_cache():
    cache = Operand((2, 7, 10), "bf16", 2, Role.CACHE)
    grown = Operand((2, 10, 10), "bf16", 2, Role.CACHE)
    call = Call({"past": cache, "first": activation(2, 3, 6), "second": activation(2, 3, 4)}, (grown,), {})
    work = KERNELS["kv_append"].work(call)
    # 2 sequences x 3 tokens x 10 wide x 2 bytes
    assert (work.cache_read_bytes, work.cache_write_bytes, work.activation_read_bytes) == (0, 120, 120)


def test_an_absorbed_product_reads_its_half_of_the_weight():
    weight = Operand((4 * (5 + 6), 8), "bf16", 2, Role.WEIGHT)
    queries = Call(
        {"q_BSHC": activation(2, 3, 4, 5), "w_kv_b": weight}, (activation(2, 3, 4, 8),), {"v_dim": 6}
    )
    outputs = Call(
        {"o_BSHL": activation(2, 3, 4, 8), "w_kv_b": weight}, (activation(2, 3, 4, 6),), {"v_dim": 6}
    )
    keys, values = KERNELS["mla_absorb_q"].work(queries), KERNELS["mla_absorb_o"].work(outputs)
    assert (keys.weight_bytes, values.weight_bytes) == (4 * 5 * 8 * 2, 4 * 6 * 8 * 2)
    # 2 x 3 rows, 4 heads, width x latent, two FLOP each
    assert (keys.flop, values.flop) == (2 * 6 * 4 * 5 * 8, 2 * 6 * 4 * 6 * 8)
