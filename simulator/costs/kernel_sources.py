"""What the kernel tables call a kernel, and the calibration entry that stands for it.

A table row names a kernel by its `kernel_source`; with the family and the dtype that says which engine ran it
and which entry was fitted on such rows. Names are exact. Entries of decode attention take a suffix by kind
(`_gqa`, `_mha`), those over short windows another, where they have one.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceEntry:
    """The engine whose table has the rows, and the name of the entry."""

    engine: str
    kernel: str


Named = tuple[str, str, str, str]  # engine, kernel_source, dtypes, entry


def _table(*named: Named) -> dict[tuple[str, str], SourceEntry]:
    return {
        (source, dtype): SourceEntry(engine, kernel)
        for engine, source, dtypes, kernel in named
        for dtype in dtypes.split()
    }


_PLUGIN = "trt_flow_/weight_only_quant_matmul_L257/PLUGIN_V2_WeightOnlyQuantMatmul_0"
_GEMM = _table(
    ("trtllm", "torch_flow", "bf16", "cublas"),
    ("trtllm", "torch_flow", "fp8 fp8_block nvfp4", "trtllm"),
    ("trtllm", "deepgemm", "fp8_block", "trtllm"),
    ("trtllm", _PLUGIN, "int8_bf16 int4_bf16", "trtllm"),
    ("trtllm", "trt_flow_/smooth_quant_gemm_L96/PLUGIN_V2_SmoothQuantGemm_0", "int8", "trtllm"),
    ("vllm", "torch.nn.functional.linear", "bf16", "vllm"),
    ("vllm", "vllm_default", "bf16 fp8", "vllm"),
    ("vllm", "CutlassFP8ScaledMMLinearKernel", "fp8", "vllm"),
    ("vllm", "FlashInferCuteDslNvFp4LinearKernel", "nvfp4", "vllm"),
    ("vllm", "FlashInferCutlassNvFp4LinearKernel", "nvfp4", "vllm"),
    ("sglang", "sglang_torch_linear", "bf16", "sglang"),
    ("sglang", "sglang", "bf16", "sglang"),
    ("sglang", "sglang_sgl_kernel_fp8_scaled_mm", "fp8", "sglang"),
    ("sglang", "sglang_deepgemm_gemm_nt_f8f8bf16", "fp8_block", "sglang"),
    ("sglang", "sglang_flashinfer_cutedsl_nvfp4", "nvfp4", "sglang"),
    ("sglang", "sglang_flashinfer_cutlass_nvfp4", "nvfp4", "sglang"),
)
_BATCHED = _table(
    ("trtllm", "default", "bf16", "mla_bmm"),
    ("trtllm", "trtllm_bmm_out", "bf16", "mla_bmm"),
    ("trtllm", "trtllm_bmm_out_dequant_bf16", "fp8", "mla_bmm"),
    ("trtllm", "trtllm_fp8_block_scaling_bmm_out", "fp8", "mla_bmm"),
    ("sglang", "sglang_torch_bmm", "bf16", "sglang"),
    ("sglang", "sglang_sgl_kernel_bmm_fp8", "fp8", "sglang"),
    ("vllm", "vllm_torch_bmm", "bf16", "vllm"),
)
_ANY_CACHE = "bf16 fp8"
_ATTENTION = _table(
    ("trtllm", "torch_flow", _ANY_CACHE, "trtllm"),
    ("trtllm", "torch_flow_flashinfer", _ANY_CACHE, "trtllm_flashinfer"),
    ("vllm", "vllm_flash_attn", _ANY_CACHE, "vllm"),
    ("vllm", "vllm_flash_attn_fa2", _ANY_CACHE, "vllm"),
    ("vllm", "vllm_flash_attn_fa3", _ANY_CACHE, "vllm"),
    ("vllm", "vllm_flash_attn_fa4", "bf16", "vllm_fa4"),
    ("vllm", "vllm_flashinfer_fidecode", _ANY_CACHE, "vllm"),
    ("vllm", "vllm_flashinfer_fiprefill", _ANY_CACHE, "vllm"),
    ("vllm", "vllm_flashinfer_trtllmdecode", _ANY_CACHE, "vllm"),
    ("vllm", "vllm_flashinfer_trtllmprefill", _ANY_CACHE, "vllm"),
    ("vllm", "vllm_triton_attn", "fp8", "vllm_triton"),
    ("sglang", "fa3", _ANY_CACHE, "sglang"),
    ("sglang", "flash_attention", _ANY_CACHE, "sglang"),
    ("sglang", "trtllm_mha", _ANY_CACHE, "sglang"),
    ("sglang", "flashinfer", _ANY_CACHE, "sglang_flashinfer"),
    ("sglang", "triton", _ANY_CACHE, "sglang_triton"),
)
_MLA = _table(
    ("trtllm", "default", _ANY_CACHE, "trtllm"),
    ("sglang", "flash_attention", _ANY_CACHE, "sglang"),
    ("sglang", "trtllm_mla", _ANY_CACHE, "sglang"),
    ("sglang", "triton", _ANY_CACHE, "sglang"),
)
_ENCODER = _table(
    ("sglang", "flash_attention_v3", "bf16", "sglang"),
    ("sglang", "flash_attention_v4", "bf16", "sglang"),
    ("sglang", "triton", "bf16", "sglang"),
    ("trtllm", "torch_flow", "bf16", "trtllm"),
    ("vllm", "vllm_vit_flash_attn_fa2", "bf16", "vllm"),
    ("vllm", "vllm_vit_flash_attn_fa3", "bf16", "vllm"),
    ("vllm", "vllm_vit_flash_attn_fa4", "bf16", "vllm"),
)
_W4A4, _FP8 = "vllm_compressedtensorsw4a4", "vllm_fp8moe_"
_MOE = _table(
    ("trtllm", "moe_torch_flow", "bf16 mxfp4_bf16 mxfp4_mxfp8", "trtllm"),
    ("trtllm", "moe_torch_flow_cutlass", "bf16 fp8 fp8_block nvfp4 mxfp4_mxfp8", "cutlass"),
    ("trtllm", "moe_torch_flow_min_latency", "nvfp4", "min_latency"),
    ("trtllm", "moe_torch_flow_nongated", "bf16 fp8 nvfp4", "nongated"),
    ("trtllm", "moe_torch_flow_triton_fp8_block", "fp8_block", "trtllm_triton"),
    ("trtllm", "deepgemm", "fp8_block", "deepgemm"),
    ("trtllm", "wideep_compute_cutlass", "fp8_block nvfp4", "wideep"),
    ("sglang", "deepepmoe", "fp8_block", "deepep"),
    ("sglang", "sglang_fused_moe_triton", "bf16 fp8_block mxfp4_bf16", "triton"),
    ("sglang", "sglang_fused_moe_triton_situ_as_silu", "mxfp4_bf16", "triton_situ"),
    (
        *("sglang", "sglang_flashinfer_trtllm_moe"),
        *("bf16 fp8_block nvfp4 mxfp4_bf16 mxfp4_mxfp8 int4_bf16", "flashinfer"),
    ),
    ("sglang", "sglang_mxfp4_flashinfer_trtllm_moe", "mxfp4_mxfp8", "flashinfer_mxfp4"),
    ("sglang", "sglang_flashinfer_cutlass_moe", "bf16 nvfp4", "sglang_cutlass"),
    ("sglang", "sglang_marlin_moe", "int4_bf16 mxfp4_bf16", "marlin"),
    ("sglang", "sglang_marlin_moe_situ_as_silu", "mxfp4_bf16", "marlin_situ"),
    ("vllm", "vllm_fused_moe", "bf16 fp8 fp8_block", "vllm_triton"),
    ("vllm", f"{_FP8}triton_tritonexperts", "fp8_block", "vllm_triton"),
    ("vllm", "vllm_modeloptfp8moe_triton_tritonexperts", "fp8", "vllm_triton"),
    ("vllm", "vllm_unquantizedfusedmoe_triton_tritonexperts", "bf16", "vllm_triton"),
    ("vllm", "vllm_gptossmxfp4moe_triton_oaitritonmxfp4expertsmonolithic", "mxfp4_bf16", "vllm_triton"),
    ("vllm", f"{_FP8}flashinfer_cutlass_flashinferexperts", "fp8_block", "vllm_cutlass"),
    ("vllm", "vllm_modeloptfp8moe_flashinfer_cutlass_flashinferexperts", "fp8", "vllm_cutlass"),
    ("vllm", "vllm_unquantizedfusedmoe_flashinfer_cutlass_flashinferexperts", "bf16", "vllm_cutlass"),
    ("vllm", f"{_W4A4}nvfp4moe_flashinfer_cutlass_flashinferexperts", "nvfp4", "vllm_cutlass"),
    ("vllm", f"{_FP8}flashinfer_trtllm_trtllmfp8expertsmonolithic", "fp8_block", "vllm_flashinfer"),
    (
        *("vllm", "vllm_modeloptfp8moe_flashinfer_trtllm_trtllmfp8expertsmonolithic", "fp8"),
        "vllm_flashinfer",
    ),
    ("vllm", "vllm_unquantizedfusedmoe_flashinfer_trtllm_trtllmbf16experts", "bf16", "vllm_flashinfer"),
    ("vllm", f"{_W4A4}nvfp4moe_flashinfer_trtllm_trtllmnvfp4expertsmonolithic", "nvfp4", "vllm_flashinfer"),
    (
        *("vllm", "vllm_gptossmxfp4moe_flashinfer_trtllm_mxfp4_bf16_trtllmmxfp4expertsmonolithic"),
        *("mxfp4_bf16", "vllm_flashinfer"),
    ),
    ("vllm", f"{_FP8}flashinfer_trtllm_trtllmfp8expertsmodular", "fp8_block", "vllm_modular"),
    ("vllm", f"{_W4A4}nvfp4moe_flashinfer_trtllm_trtllmnvfp4expertsmodular", "nvfp4", "vllm_modular"),
    (
        *("vllm", "vllm_mxfp4moe_flashinfer_trtllm_mxfp4_mxfp8_trtllmmxfp4expertsmodular"),
        *("mxfp4_mxfp8", "vllm_modular"),
    ),
    ("vllm", "vllm_compressedtensorswna16marlinmoe_marlin_marlinexperts", "int4_bf16", "vllm_marlin"),
    ("vllm", "vllm_gptossmxfp4moe_marlin_marlinexperts", "mxfp4_bf16", "vllm_marlin"),
    ("vllm", f"{_W4A4}mxfp4moe_marlin_marlinexperts", "mxfp4_bf16", "vllm_marlin"),
    ("vllm", f"{_W4A4}mxfp4moe_marlin_marlinexperts_situ_as_silu", "mxfp4_bf16", "vllm_marlin"),
    ("vllm", "vllm_xpu_moe", "bf16 fp8", "vllm_xpu"),
    ("vllm", "vllm_xpu_moe_mxfp4", "mxfp4_bf16", "vllm_xpu"),
)
_ALL_REDUCE = _table(
    ("trtllm", "TRTLLM", "any", "trtllm"),
    ("trtllm", "TRTLLM_MNNVL_oneshot", "any", "trtllm_mnnvl_oneshot"),
    ("trtllm", "TRTLLM_MNNVL_twoshot", "any", "trtllm_mnnvl_twoshot"),
    ("vllm", "vLLM_custom_graph", "any", "vllm"),
    ("sglang", "SGLang_CustomAllReduce_graph", "any", "sglang_jit"),
    ("nccl", "NCCL", "any", "nccl"),
)
_MARCHING = {
    "delta_rule": _table(
        ("vllm", "chunk_gated_delta_rule_flashinfer", "bf16", "vllm_chunk"),
        ("vllm", "chunk_gated_delta_rule_triton", "bf16", "vllm_chunk"),
        ("vllm", "flashkda_fwd", "bf16", "vllm_kda_chunk"),
        ("vllm", "chunk_kda_with_fused_gate", "bf16", "vllm_kda_chunk"),
        ("vllm", "fused_kda_decode", "bf16", "vllm_kda_fused_step"),
        ("vllm", "fused_recurrent_kda", "bf16", "vllm_kda_verify"),
        ("vllm", "fused_recurrent_kda_packed_decode", "bf16", "vllm_kda_step"),
        ("sglang", "chunk_kda", "bf16", "sglang_kda_chunk"),
        ("sglang", "fused_kda_decode_mtp_dspark", "bf16", "sglang_kda_verify"),
        ("sglang", "fused_sigmoid_gating_delta_rule_update", "bf16", "sglang_kda_verify"),
        ("sglang", "kda_fused_decode", "bf16", "sglang_kda_fused_step"),
        ("trtllm", "fused_recurrent_gated_delta_rule", "bf16", "trtllm_step"),
    ),
    "quantize": _table(
        ("vllm", "static_scaled_fp8_quant", "fp8", "vllm_matrix"),
        ("sglang", "sglang", "fp8", "sglang_matrix"),
        ("trtllm", "torch_ops", "fp8", "trtllm_matrix"),
    ),
    "index_scores": _table(
        ("sglang", "deep_gemm.fp8_mqa_logits", "fp8", "sglang"),
        ("sglang", "deep_gemm.fp8_paged_mqa_logits", "fp8", "sglang_paged"),
        ("vllm", "vllm.utils.deep_gemm.fp8_fp4_paged_mqa_logits", "fp8", "vllm_paged"),
    ),
    "index_choice": _table(("sglang", "fast_topk_transform_fused", "any", "flat")),
    "sparse_attention": _table(("sglang", "flash_mla_sparse_fwd", "bf16", "sglang")),
}

#: family -> (kernel_source, dtype) -> entry; the dtype of an attention is that of its cache
SOURCES = {
    "gemm": _GEMM,
    "batched_gemm": _BATCHED,
    "attention_prefill": _ATTENTION,
    "attention_decode": _ATTENTION,
    "mla_prefill": _MLA,
    "mla_decode": _MLA,
    "encoder_attention": _ENCODER,
    "moe": _MOE,
    "custom_all_reduce": _ALL_REDUCE,
    **_MARCHING,
}


def entry_of(family: str, source: str, dtype: str) -> SourceEntry | None:
    """The entry that stands for a kernel of the tables, or None where nobody calls one so."""
    return SOURCES.get(family, {}).get((source, dtype))
