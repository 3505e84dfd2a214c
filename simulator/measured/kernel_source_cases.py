"""Cases of the kernel sources beside those that serving runs are priced with: every other one of the tables.

What serves on a device is in `kernel_cases`; here are an engine's own GEMMs in 16 bits, kernels for few head
sizes, the MLA of SGLang, encoders, scans, convolutions, indexers, quantisation and the exchanges of engines.
"""

from collections.abc import Callable, Iterator

from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_releases import (
    ADA,
    BLACKWELL,
    GDDR,
    HOPPER,
    newest,
)

Make = Callable[..., KernelCase]


def source_cases(device: str, case: Make) -> Iterator[KernelCase]:
    """The further cases of a device; `case` makes one."""
    if device == "arc_pro_b60":
        return
    yield from _gemms(device, case)
    yield from _attentions(device, case)
    if device == "a100_sxm_80gb":
        yield from _scans_of_ampere(device, case)
        return
    yield from _encoders(device, case)
    yield from _scans(device, case)
    yield from _convolutions(device, case)
    yield from _quantisation(device, case)
    if device not in GDDR:
        yield from _indexers(device, case)
        yield from _exchanges(device, case)


def _gemms(device: str, case: Make) -> Iterator[KernelCase]:
    for framework in ("vllm", "sglang"):
        yield case(device, "gemm", "bf16", framework, newest(device, framework))
    if device == "a100_sxm_80gb":
        for dtype in ("int8_bf16", "int4_bf16", "int8"):
            yield case(device, "gemm", dtype, "trtllm", newest(device, "trtllm"))
        yield case(device, "batched_gemm", "bf16", "sglang", newest(device, "sglang"))
        return
    trtllm, sglang, vllm = (newest(device, name) for name in ("trtllm", "sglang", "vllm"))
    if device not in GDDR:
        yield case(device, "gemm", "fp8_block", "sglang", sglang)
        yield case(device, "batched_gemm", "bf16", "vllm", vllm)
    yield case(device, "batched_gemm", "fp8", "mla_bmm", trtllm)
    for dtype in ("bf16", "fp8"):
        yield case(device, "batched_gemm", dtype, "sglang", sglang)


def _attentions(device: str, case: Make) -> Iterator[KernelCase]:
    sglang = newest(device, "sglang")
    if device == "a100_sxm_80gb":
        yield case(device, "attention_prefill", "bf16", "sglang", sglang)
        yield case(device, "mla_prefill", "fp8", "trtllm", newest(device, "trtllm"))
        for kind in ("gqa", "mha"):
            yield case(device, "attention_decode", "bf16", f"sglang_{kind}", sglang)
        return
    yield from _mla(device, case)
    trtllm, vllm = newest(device, "trtllm"), newest(device, "vllm")
    yield case(device, "attention_prefill", "fp8", "trtllm_bf16_queries", trtllm)
    for dtype in ("bf16", "fp8"):
        for name in ("triton", *(("flashinfer",) if device not in HOPPER else ())):
            yield case(device, "attention_prefill", dtype, f"sglang_{name}", sglang, name)
            yield case(device, "attention_decode", dtype, f"sglang_{name}", sglang, name)
        if device in BLACKWELL:
            source = "torch_flow_flashinfer"
            yield case(device, "attention_prefill", dtype, "trtllm_flashinfer", trtllm, source)
            yield case(device, "attention_decode", dtype, "trtllm_flashinfer", trtllm, source)
    name, dtype = ("fa4", "bf16") if device in HOPPER else ("triton", "fp8")
    source = "vllm_flash_attn_fa4" if device in HOPPER else "vllm_triton_attn"
    yield case(device, "attention_prefill", dtype, f"vllm_{name}", vllm, source)
    yield case(device, "attention_decode", dtype, f"vllm_{name}", vllm, source)


def _mla(device: str, case: Make) -> Iterator[KernelCase]:
    yield case(device, "mla_prefill", "fp8", "trtllm", newest(device, "trtllm", table="mla"))
    sglang = newest(device, "sglang")
    for dtype in ("bf16",) if device in GDDR else ("bf16", "fp8"):
        yield case(device, "mla_prefill", dtype, "sglang", sglang)
        yield case(device, "mla_decode", dtype, "sglang", sglang)


def _encoders(device: str, case: Make) -> Iterator[KernelCase]:
    for framework in ("vllm", "sglang", "trtllm"):
        yield case(device, "encoder_attention", "bf16", framework, newest(device, framework))


def _scans(device: str, case: Make) -> Iterator[KernelCase]:
    def scan(engine: str, kernel: str, source: str, table: str = "") -> KernelCase:
        releases = newest(device, engine, table=table)
        return case(device, "delta_rule", "bf16", f"{engine}_{kernel}", releases, source)

    fused = "chunk_gated_delta_rule"
    step = "fused_recurrent_gated_delta_rule"
    yield scan("vllm", "chunk", f"{fused}_triton" if device in GDDR else f"{fused}_flashinfer")
    yield scan("vllm", "step", f"{step}_packed_decode")
    yield scan("sglang", "chunk", fused)
    yield scan("sglang", "step", f"{step}_packed_decode")
    yield scan("trtllm", "chunk", fused)
    yield scan("trtllm", "step", step)
    yield scan("vllm", "kda_chunk", "chunk_kda_with_fused_gate" if device in ADA else "flashkda_fwd", "kda")
    yield scan("vllm", "kda_step", "fused_recurrent_kda_packed_decode", "kda")
    yield scan("vllm", "kda_verify", "fused_recurrent_kda", "kda")
    yield scan("sglang", "kda_chunk", "chunk_kda", "kda")
    yield scan("sglang", "kda_step", "fused_recurrent_kda_packed_decode", "kda")
    verify = (
        "fused_kda_decode_mtp_dspark" if device in BLACKWELL else "fused_sigmoid_gating_delta_rule_update"
    )
    yield scan("sglang", "kda_verify", verify, "kda")
    if device not in ADA:
        yield scan("sglang", "kda_fused_step", "kda_fused_decode", "kda")
        if device != "gb300":
            yield scan("vllm", "kda_fused_step", "fused_kda_decode", "kda")


def _scans_of_ampere(device: str, case: Make) -> Iterator[KernelCase]:
    sglang = newest(device, "sglang")
    step = "fused_recurrent_gated_delta_rule"
    yield case(device, "delta_rule", "bf16", "sglang_step", sglang, step)
    yield case(device, "causal_conv", "bf16", "sglang_chunk", sglang, "causal_conv1d_fn")
    yield case(device, "causal_conv", "bf16", "sglang_step", sglang, "causal_conv1d_update")


def _convolutions(device: str, case: Make) -> Iterator[KernelCase]:
    def conv(engine: str, kernel: str, source: str, table: str = "") -> KernelCase:
        releases = newest(device, engine, table=table)
        return case(device, "causal_conv", "bf16", f"{engine}_{kernel}", releases, source)

    for engine in ("vllm", "sglang", "trtllm"):
        yield conv(engine, "chunk", "causal_conv1d_fn")
        yield conv(engine, "step", "causal_conv1d_update")
    yield conv("trtllm", "mamba2_chunk", "causal_conv1d_fn")
    yield conv("trtllm", "mamba2_step", "causal_conv1d_update")
    for engine in ("vllm", "sglang"):
        yield conv(engine, "kda_chunk", "causal_conv1d_fn_qkv3", "kda")
        yield conv(engine, "kda_step", "causal_conv1d_update", "kda")


#: kernels that quantise, and those that find the scales first, where they are timed and not a difference
_QUANTISE = {
    "vllm": ("static_scaled_fp8_quant", ""),
    "sglang": ("sglang", ""),
    "trtllm": ("torch_ops", "torch_ops"),
}


def _quantisation(device: str, case: Make) -> Iterator[KernelCase]:
    for engine, (matrix, scale) in _QUANTISE.items():
        yield case(device, "quantize", "fp8", f"{engine}_matrix", newest(device, engine), matrix)
        if scale:
            yield case(device, "quantize", "fp8", f"{engine}_scale", newest(device, engine), scale)


def _indexers(device: str, case: Make) -> Iterator[KernelCase]:
    sglang, vllm = newest(device, "sglang"), newest(device, "vllm")
    yield case(device, "index_scores", "fp8", "sglang", sglang, "deep_gemm.fp8_mqa_logits")
    yield case(device, "index_scores", "fp8", "sglang_paged", sglang, "deep_gemm.fp8_paged_mqa_logits")
    yield case(
        *(device, "index_scores", "fp8", "vllm_paged", vllm),
        "vllm.utils.deep_gemm.fp8_fp4_paged_mqa_logits",
    )
    for mode in ("flat", "top_last"):
        yield case(device, "index_choice", "any", mode, sglang, "fast_topk_transform_fused")
    yield case(device, "sparse_attention", "bf16", "sglang", sglang, "flash_mla_sparse_fwd")


def _exchanges(device: str, case: Make) -> Iterator[KernelCase]:
    low_latency = ("bf16", "fp8") if device in HOPPER else ("bf16", "fp8", "nvfp4")
    of_engine = (
        *(("trtllm", "1.3.0rc11", "ep_low_latency", dtype) for dtype in low_latency),
        *(("trtllm", "1.3.0rc11", "ep_bulk", dtype) for dtype in ("bf16", "nvfp4")),
        *(("vllm", "0.24.0", family, "default") for family in ("ep_low_latency", "ep_bulk")),
    )
    for engine, release, family, dtype in of_engine:
        for phase in ("dispatch", "combine"):
            yield case(device, family, dtype, f"{engine}_{phase}_node", ((engine, release),))
    if device == "gb200":
        table = (("trtllm", "1.3.0rc10"),)
        for dtype in ("bf16", "fp8", "nvfp4"):
            for phase in ("prepare", "dispatch", "combine"):
                yield case(device, "ep_nvlink", dtype, f"two_sided_{phase}", table)
        yield case(device, "ep_nvlink", "nvfp4", "two_sided_combine_low_precision", table)
        for phase in ("dispatch", "combine"):
            yield case(device, "ep_nvlink", "nvfp4", f"one_sided_{phase}", table)
