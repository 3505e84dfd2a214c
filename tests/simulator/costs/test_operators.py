from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.expressions import Expression
from model_graphs.graph import Collective, Operator, Role, Tensor
from model_graphs.graph_io import load_graph, phases_of
from simulator.costs.expert_load import FITTED_LAW
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import in_sequence, price_operator, traffic_bytes

WORK = (
    *("flop", "causal_flop", "weight_bytes", "activation_read_bytes"),
    *("activation_write_bytes", "cache_read_bytes", "cache_write_bytes"),
)
BATCH = np.array([1.0, 8.0, 64.0])


@pytest.fixture(scope="module")
def library() -> KernelLibrary:
    return KernelLibrary(load_system("h200_sxm"), "sglang")


def tensor(shape: str, role: Role = Role.ACTIVATION, dtype: str = "bf16") -> Tensor:
    return Tensor(tuple(Expression.parse(dim) for dim in shape.split()), dtype, role)


def operator(
    kind: str,
    inputs: tuple[Tensor, ...],
    output: Tensor,
    *,
    attrs: Mapping[str, int] | None = None,
    compute_dtype: str = "bf16",
    collective: Collective | None = None,
    **traffic: str,
) -> Operator:
    work = {name: Expression.parse(traffic.get(name, "0")) for name in WORK}
    return Operator(
        "op",
        kind,
        inputs,
        (output,),
        (-1,),
        **work,
        attrs=attrs or {},
        compute_dtype=compute_dtype,
        collective=collective,
    )


def test_a_linear_is_a_gemm_of_its_rows(library: KernelLibrary) -> None:
    weight = tensor("512 7168", Role.WEIGHT)
    linear = operator("linear", (tensor("B S 7168"), weight), tensor("B S 512"), compute_dtype="fp8_block")
    priced = price_operator(library, linear, {"B": BATCH, "S": 4})
    np.testing.assert_array_equal(priced.latency_s, library.gemm(4 * BATCH, 512, 7168, "fp8_block").latency_s)


def test_an_absorbed_projection_is_a_batch_over_heads(library: KernelLibrary) -> None:
    absorb = operator(
        "mla_absorb_q", (tensor("B S 16 128"), tensor("4096 512", Role.WEIGHT)), tensor("B S 16 512")
    )
    priced = price_operator(library, absorb, {"B": BATCH, "S": 1})
    np.testing.assert_array_equal(priced.latency_s, library.batched_gemm(16, BATCH, 512, 128).latency_s)


def mla() -> Operator:
    cache = tensor("B T+S 576", Role.CACHE, "fp8")
    return operator("mla_attention", (tensor("B S 16 512"), tensor("B S 16 64"), cache), tensor("B S 16 512"))


def test_one_new_token_is_decode_over_everything_cached(library: KernelLibrary) -> None:
    priced = price_operator(library, mla(), {"B": BATCH, "S": 1, "T": 4095})
    np.testing.assert_array_equal(priced.latency_s, library.mla_decode(BATCH, 4096, 16, "fp8").latency_s)


def test_several_new_tokens_are_an_absorbed_prefill(library: KernelLibrary) -> None:
    priced = price_operator(library, mla(), {"B": 1, "S": 512, "T": 4096})
    assert float(priced.latency_s) == float(
        library.mla_prefill(1, 512, 16, past=4096, absorbed=True).latency_s
    )


def naive(query_dim: int, value_dim: int) -> Operator:
    q, k, v = tensor(f"B S 16 {query_dim}"), tensor("B S 16 128"), tensor(f"B S 16 {value_dim}")
    return operator("attention", (q, k, v), tensor(f"B S 16 {value_dim}"), attrs={"qk_dim": query_dim})


def test_naive_mla_is_known_by_its_dims(library: KernelLibrary) -> None:
    priced = price_operator(library, naive(192, 128), {"B": 1, "S": 2048})
    assert float(priced.latency_s) == float(library.mla_prefill(1, 2048, 16).latency_s)


def grouped(rows: str, window: int = 0, dtype: str = "bf16") -> Operator:
    attrs = {"n_heads": 16, "n_kv_heads": 4, "qk_dim": 128, "v_dim": 128, "window": window}
    cache = tensor(f"B {rows} 4 256", Role.CACHE, dtype)
    return operator("grouped_attention", (tensor("B S 16 128"), cache), tensor("B S 16 128"), attrs=attrs)


def test_grouped_attention_prefills_and_decodes(library: KernelLibrary) -> None:
    prefill = price_operator(library, grouped("S"), {"B": 1, "S": 2048})
    assert float(prefill.latency_s) == float(library.attention_prefill(1, 2048, 16, 4, 128).latency_s)
    decode = price_operator(library, grouped("T+S"), {"B": BATCH, "S": 1, "T": 999})
    np.testing.assert_array_equal(
        decode.latency_s, library.attention_decode(BATCH, 1000, 16, 4, 128).latency_s
    )
    chunk = price_operator(library, grouped("T+S"), {"B": 1, "S": 512, "T": 2048})
    expected = library.attention_prefill(1, 512, 16, 4, 128, past=2048).latency_s
    assert float(chunk.latency_s) == float(expected)


def test_a_cache_in_fp8_is_priced_as_one(library: KernelLibrary) -> None:
    decode = price_operator(library, grouped("T+S", dtype="fp8"), {"B": 64, "S": 1, "T": 999})
    expected = library.attention_decode(64, 1000, 16, 4, 128, kv_dtype="fp8")
    assert float(decode.latency_s) == float(expected.latency_s)


def test_a_window_is_priced_by_what_it_sees(library: KernelLibrary) -> None:
    short, far = ({"B": 64, "S": 1, "T": past} for past in (511, 8191))
    windowed = grouped("T+S", window=128)
    assert float(price_operator(library, windowed, far).latency_s) == float(
        price_operator(library, windowed, short).latency_s
    )
    assert (
        price_operator(library, grouped("T+S"), far).latency_s
        > 3 * price_operator(library, windowed, far).latency_s
    )


def experts(rows: str) -> Operator:
    attrs = {"inter": 2048, "topk": 8, "n_experts": 256, "n_local_experts": 32, "hidden": 7168}
    x = (tensor(f"{rows} 7168"), tensor(f"{rows} 8"))
    return operator("moe_experts", x, tensor(f"{rows} 7168"), attrs=attrs, compute_dtype="fp8_block")


def test_experts_are_priced_by_the_tokens_of_all_ranks(library: KernelLibrary) -> None:
    expected = library.moe(8 * BATCH, 7168, 2048, 8, 256, moe_ep=8, distribution=FITTED_LAW).latency_s
    local = {"B": BATCH, "S": 1, "tokens_of_all_ranks": 8 * BATCH}
    np.testing.assert_array_equal(price_operator(library, experts("B*S"), local).latency_s, expected)
    received = price_operator(library, experts("R"), {"R": BATCH})
    np.testing.assert_array_equal(received.latency_s, expected)


def test_experts_stored_in_mxfp4_are_not_priced_as_16_bit_ones(library: KernelLibrary) -> None:
    wide = experts("B*S")
    weights = (tensor("32 4096 7168", Role.WEIGHT, "mxfp4"), tensor("32 7168 2048", Role.WEIGHT, "mxfp4"))
    stored = replace(wide, inputs=(*wide.inputs, *weights), compute_dtype="bf16")
    priced = price_operator(library, stored, {"B": 64, "S": 1})
    dims = (64, 7168, 2048, 8, 256)
    assert float(priced.latency_s) == float(library.moe(*dims, moe_ep=8, dtype="mxfp4").latency_s)
    assert float(priced.latency_s) < float(library.moe(*dims, moe_ep=8, dtype="bf16").latency_s)


def test_a_route_is_a_router_gemm_and_a_selection(library: KernelLibrary) -> None:
    route = operator("moe_route", (tensor("B*S 7168"), tensor("256 7168", Role.WEIGHT)), tensor("B*S 8"))
    priced = price_operator(library, route, {"B": 64, "S": 1})
    parts = library.gemm(64, 256, 7168), library.bandwidth_bound(4 * 64 * 256, "moe_route")
    assert float(priced.latency_s) == pytest.approx(sum(float(part.latency_s) for part in parts))


def test_a_norm_is_priced_by_the_bytes_it_moves(library: KernelLibrary) -> None:
    traffic = {
        "activation_read_bytes": "14336*B",
        "activation_write_bytes": "14336*B",
        "weight_bytes": "14336",
    }
    norm = operator("rmsnorm", (tensor("B 1 7168"),), tensor("B 1 7168"), **traffic)
    assert traffic_bytes(norm, {"B": 2}) == 2 * 2 * 14336 + 14336
    priced = price_operator(library, norm, {"B": BATCH})
    expected = library.bandwidth_bound(2 * 14336 * BATCH + 14336, "rmsnorm").latency_s
    np.testing.assert_array_equal(priced.latency_s, expected)


def test_an_embedding_reads_rows_and_not_its_table(library: KernelLibrary) -> None:
    traffic = {"activation_write_bytes": "14336*B", "weight_bytes": "1853358080"}
    gather = operator("embedding", (tensor("B 1", Role.INDEX),), tensor("B 1 7168"), **traffic)
    assert traffic_bytes(gather, {"B": 3}) == 2 * 3 * 14336


def test_a_collective_meets_with_its_message(library: KernelLibrary) -> None:
    meeting = Collective("all_reduce", "tp", 8, Expression.parse("14336*B"))
    reduce = operator("all_reduce", (tensor("B 7168"),), tensor("B 7168"), collective=meeting)
    expected = library.collective("all_reduce", 8, 14336 * BATCH).latency_s
    np.testing.assert_array_equal(price_operator(library, reduce, {"B": BATCH}).latency_s, expected)


def test_a_dispatch_counts_its_tokens_from_its_message(library: KernelLibrary) -> None:
    meeting = Collective("ep_dispatch", "ep", 8, Expression.parse("8*7168*B"))
    dispatch = operator("ep_dispatch", (tensor("B 7168", dtype="fp8"),), tensor("R 7168"), collective=meeting)
    expected = library.collective("ep_dispatch", 8, 8 * 7168 * BATCH, bytes_per_token=8 * 7168).latency_s
    np.testing.assert_array_equal(price_operator(library, dispatch, {"B": BATCH}).latency_s, expected)


def test_kernels_in_sequence_add_up_and_the_longest_names_the_bound(library: KernelLibrary) -> None:
    short, long = library.bandwidth_bound(1.0, "add"), library.gemm(8192, 8192, 8192)
    both = in_sequence(short, long)
    assert float(both.latency_s) == float(short.latency_s) + float(long.latency_s)
    assert int(both.bound) == int(long.bound)
    assert both.log_half_width == max(short.log_half_width, long.log_half_width)


def test_an_unknown_kind_and_an_unbound_symbol_are_refused(library: KernelLibrary) -> None:
    with pytest.raises(InputError, match="did you mean rmsnorm"):
        price_operator(library, operator("rmsnrom", (tensor("B 7168"),), tensor("B 7168")), {"B": 1})
    weight = tensor("512 7168", Role.WEIGHT)
    with pytest.raises(InputError, match="S"):
        price_operator(library, operator("linear", (tensor("B S 7168"), weight), tensor("B S 512")), {"B": 1})
    with pytest.raises(InputError, match="must carry the attribute n_experts"):
        price_operator(library, operator("moe_experts", (tensor("B 7168"),), tensor("B 7168")), {"B": 1})


def of_model(key: str, phase: str, kind: str) -> list[Operator]:
    blocks = load_graph(key, phase).blocks
    return [operator for block in blocks for operator in block.operators if operator.kind == kind]


def test_attention_to_all_tokens_is_that_of_encoders(library: KernelLibrary) -> None:
    (both_ways,) = of_model("bert-large", "encode", "bidirectional_attention")
    priced = price_operator(library, both_ways, {"B": BATCH, "S": 385})
    wanted = library.sequences.encoder_attention(BATCH, 385, 16, 64)
    np.testing.assert_array_equal(priced.latency_s, wanted.latency_s)
    assert priced.grade == "B"
    # 385 x 385 pairs of 16 heads, 64 wide: not below the peak
    flop = 4 * BATCH * 16 * 64 * 385 * 385
    assert np.all(priced.latency_s > flop / library.device.peak("bf16"))


def test_integer_weights_that_are_expanded_cost_their_own_bytes(library: KernelLibrary) -> None:
    weight = tensor("512 7168", Role.WEIGHT, "int4_g128")
    linear = operator("linear", (tensor("B S 7168"), weight), tensor("B S 512"))
    priced = price_operator(library, linear, {"B": BATCH, "S": 4})
    np.testing.assert_array_equal(priced.latency_s, library.gemm(4 * BATCH, 512, 7168, "int4_bf16").latency_s)
    assert priced.grade == "C"  # measured on Ampere alone


def test_attention_in_chunks_starts_anew_with_each(library: KernelLibrary) -> None:
    chunked, full = of_model("llama-4-scout", "decode", "grouped_attention")
    at = {"B": 16, "S": 1, "T": np.array([99.0, 8191.0, 8192.0, 8192.0 + 99])}
    first, last, again, later = price_operator(library, chunked, at).latency_s
    assert again < first == later < last
    assert np.all(np.diff(price_operator(library, full, at).latency_s) > 0)


def test_a_prompt_over_several_chunks_costs_as_much_as_its_chunks(library: KernelLibrary) -> None:
    (chunked, _) = of_model("llama-4-scout", "prefill", "grouped_attention")
    four = price_operator(library, chunked, {"B": 1, "S": 4 * 8192}).latency_s
    alone = price_operator(library, chunked, {"B": 4, "S": 8192}).latency_s
    assert float(four) == pytest.approx(float(alone))


def test_every_kind_of_operator_in_a_shipped_graph_has_a_price(library: KernelLibrary) -> None:
    seen: dict[str, Operator] = {}
    keys = ("bert-large", "vit-large-patch16-224", "gemma-3-27b", "llama-4-maverick", "bloom-176b", "phi-2")
    for key in keys:
        for phase in phases_of(resolve_model(key).blueprint):
            operators = (op for block in load_graph(key, phase).blocks for op in block.operators)
            seen |= {operator.kind: operator for operator in operators}
    assert {"layernorm", "gelu_mul", "activation", "image_tokens", "scale_queries"} <= seen.keys()
    for operator in seen.values():
        priced = price_operator(library, operator, {"B": BATCH, "S": 128, "T": 1000})
        assert np.all(priced.latency_s > 0), operator.kind
