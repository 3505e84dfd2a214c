"""Semantic kernels of the reference implementations: operators that run, with their fakes and their work."""

from reference_impl.kernels.attention import (
    attention,
    bidirectional_attention,
    grouped_attention,
    kv_append,
    mla_absorb_o,
    mla_absorb_q,
    mla_attention,
)
from reference_impl.kernels.casts import cast_experts, cast_input, cast_linear, cast_weight
from reference_impl.kernels.collectives import (
    all_gather,
    all_reduce,
    ep_combine,
    ep_dispatch,
    process_groups,
    reduce_scatter,
)
from reference_impl.kernels.elementwise import (
    activation,
    add,
    add_rmsnorm,
    concat,
    embedding,
    gelu_mul,
    linear,
    rmsnorm,
    rope,
    rope_qk,
    scale_queries,
    sigmoid_mul,
    silu_mul,
)
from reference_impl.kernels.experts import moe_experts, moe_route
from reference_impl.kernels.images import image_tokens
from reference_impl.kernels.layernorm import add_layernorm, layernorm, sum_layernorm
from reference_impl.kernels.packed import packed_linear, quantize
from reference_impl.kernels.packed_experts import packed_experts
from reference_impl.kernels.recurrent import causal_conv1d, gated_delta_rule, gated_rmsnorm, mamba2_scan
from reference_impl.kernels.registry import KERNELS, Call, Kernel, Operand, Work, plain_kernels
from reference_impl.kernels.sparse_attention import index_scores, index_weights, sparse_mla_attention, topk
from reference_impl.kernels.summed_attention import summed_attention, summed_mla_attention

__all__ = [
    "KERNELS",
    "Call",
    "Kernel",
    "Operand",
    "Work",
    "activation",
    "add",
    "add_layernorm",
    "add_rmsnorm",
    "all_gather",
    "all_reduce",
    "attention",
    "bidirectional_attention",
    "cast_experts",
    "cast_input",
    "cast_linear",
    "cast_weight",
    "causal_conv1d",
    "concat",
    "embedding",
    "ep_combine",
    "ep_dispatch",
    "gated_delta_rule",
    "gated_rmsnorm",
    "gelu_mul",
    "grouped_attention",
    "image_tokens",
    "index_scores",
    "index_weights",
    "kv_append",
    "layernorm",
    "linear",
    "mamba2_scan",
    "mla_absorb_o",
    "mla_absorb_q",
    "mla_attention",
    "moe_experts",
    "moe_route",
    "packed_experts",
    "packed_linear",
    "plain_kernels",
    "process_groups",
    "quantize",
    "reduce_scatter",
    "rmsnorm",
    "rope",
    "rope_qk",
    "scale_queries",
    "sigmoid_mul",
    "silu_mul",
    "sparse_mla_attention",
    "sum_layernorm",
    "summed_attention",
    "summed_mla_attention",
    "topk",
]
