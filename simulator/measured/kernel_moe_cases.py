"""Which kernel of routed experts is which in the tables: framework, release and name of the kernel."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class MoeSource:
    """Rows of one kernel and dtype; without a `release`, of the newest one of the framework.

    Where a table lacks what would tell constants apart, those of the device `prior_of` are the prior.
    """

    dtype: str
    kernel: str
    framework: str
    source: str
    release: str = ""
    prior_of: str = ""
    form: tuple[tuple[str, str], ...] = ()  # choices of form, as fields of the constants


_CUTLASS = ("cutlass", "trtllm", "moe_torch_flow_cutlass")
_TRTLLM = ("trtllm", "trtllm", "moe_torch_flow")
_TRITON = ("triton", "sglang", "sglang_fused_moe_triton")
_FLASHINFER = ("flashinfer", "sglang", "sglang_flashinfer_trtllm_moe")

_HOPPER = (
    *(MoeSource(dtype, *kernel) for dtype in ("fp8_block", "bf16") for kernel in (_CUTLASS, _TRITON)),
    MoeSource("bf16", "vllm_triton", "vllm", "vllm_unquantizedfusedmoe_triton_tritonexperts"),
    MoeSource("fp8", *_CUTLASS),
    MoeSource("mxfp4_bf16", *_TRTLLM),
    MoeSource("mxfp4_bf16", *_TRITON),
    MoeSource(
        "mxfp4_bf16", "vllm_triton", "vllm", "vllm_gptossmxfp4moe_triton_oaitritonmxfp4expertsmonolithic"
    ),
)
#: release 0.19 times Triton's kernel with experts spread over ranks too, 0.24 only without
_H200 = (
    MoeSource("fp8_block", "vllm_triton", "vllm", "vllm_fused_moe", "0.19.0"),
    MoeSource("fp8", "vllm_triton", "vllm", "vllm_fused_moe", "0.19.0"),
)
_H100 = (
    MoeSource("fp8_block", "vllm_triton", "vllm", "vllm_fp8moe_triton_tritonexperts", prior_of="h200_sxm"),
)

_BLACKWELL = (
    MoeSource("fp8_block", "deepgemm", "trtllm", "deepgemm"),
    MoeSource("fp8_block", *_FLASHINFER),
    MoeSource("bf16", *_CUTLASS),
    MoeSource("bf16", *_FLASHINFER),
    MoeSource("nvfp4", *_CUTLASS),
    MoeSource("nvfp4", *_FLASHINFER),
    MoeSource("nvfp4", "min_latency", "trtllm", "moe_torch_flow_min_latency"),
    MoeSource("fp8", *_CUTLASS),
    *(
        MoeSource(dtype, *kernel)
        for dtype in ("mxfp4_mxfp8", "mxfp4_bf16")
        for kernel in (_TRTLLM, _FLASHINFER)
    ),
    *(
        MoeSource(dtype, "vllm_flashinfer", "vllm", f"vllm_{name}")
        for dtype, name in (
            ("fp8_block", "fp8moe_flashinfer_trtllm_trtllmfp8expertsmonolithic"),
            ("fp8", "modeloptfp8moe_flashinfer_trtllm_trtllmfp8expertsmonolithic"),
            ("bf16", "unquantizedfusedmoe_flashinfer_trtllm_trtllmbf16experts"),
            ("nvfp4", "compressedtensorsw4a4nvfp4moe_flashinfer_trtllm_trtllmnvfp4expertsmonolithic"),
            ("mxfp4_bf16", "gptossmxfp4moe_flashinfer_trtllm_mxfp4_bf16_trtllmmxfp4expertsmonolithic"),
        )
    ),
)

#: what vLLM ran up to release 0.22; the tables of GB200 begin with 0.24
_B200 = (
    # chosen on the `choose` sites: without tuned files for the device, 12.5% of error instead of 17.3
    MoeSource(
        *("fp8_block", "vllm_triton", "vllm", "vllm_fused_moe", "0.22.0"), form=(("tiling", "by_tokens"),)
    ),
    MoeSource("bf16", "vllm_triton", "vllm", "vllm_fused_moe", "0.22.0"),
    MoeSource("fp8", "vllm_triton", "vllm", "vllm_fused_moe", "0.22.0"),
)

_OF_DEVICE = {
    "a100_sxm_80gb": (MoeSource("bf16", *_TRITON),),
    "h100_sxm": _HOPPER + _H100,
    "h200_sxm": _HOPPER + _H200,
    "b200_sxm": _BLACKWELL + _B200,
    "gb200": _BLACKWELL,
}


def moe_sources(device: str) -> Iterator[MoeSource]:
    """The kernels of routed experts that are calibrated on a device."""
    yield from _OF_DEVICE[device]
