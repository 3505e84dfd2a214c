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

_NONGATED = ("nongated", "trtllm", "moe_torch_flow_nongated")
_MARLIN = ("marlin", "sglang", "sglang_marlin_moe")
_MARLIN_SITU = ("marlin_situ", "sglang", "sglang_marlin_moe_situ_as_silu")
_SGLANG_CUTLASS = ("sglang_cutlass", "sglang", "sglang_flashinfer_cutlass_moe")
_VLLM_CUTLASS = tuple(
    MoeSource(dtype, "vllm_cutlass", "vllm", f"vllm_{name}moe_flashinfer_cutlass_flashinferexperts")
    for dtype, name in (
        ("fp8_block", "fp8"),
        ("fp8", "modeloptfp8"),
        ("bf16", "unquantizedfused"),
        ("nvfp4", "compressedtensorsw4a4nvfp4"),
    )
)
_VLLM_INT4 = MoeSource(
    "int4_bf16", "vllm_marlin", "vllm", "vllm_compressedtensorswna16marlinmoe_marlin_marlinexperts"
)
_VLLM_MXFP4_MARLIN = "vllm_compressedtensorsw4a4mxfp4moe_marlin_marlinexperts"
_VLLM_GPTOSS_MARLIN = MoeSource(
    "mxfp4_bf16", "vllm_marlin", "vllm", "vllm_gptossmxfp4moe_marlin_marlinexperts"
)


def _deepep() -> tuple[MoeSource, ...]:
    return tuple(
        MoeSource("fp8_block", kernel, "sglang", "deepepmoe", "0.5.10")
        for kernel in ("deepep", "deepep_decode")
    )


def _wideep(dtype: str) -> MoeSource:
    return MoeSource(dtype, "wideep", "trtllm", "wideep_compute_cutlass", "1.3.0rc10")


#: kernels that the engines run for other models or settings than those of the serving runs
_MORE_HOPPER = (
    MoeSource("bf16", *_SGLANG_CUTLASS),
    MoeSource("int4_bf16", *_MARLIN),
    MoeSource("mxfp4_bf16", *_MARLIN_SITU),
    *(MoeSource(dtype, *_NONGATED) for dtype in ("bf16", "fp8")),
    MoeSource("mxfp4_bf16", "vllm_marlin", "vllm", f"{_VLLM_MXFP4_MARLIN}_situ_as_silu"),
    _VLLM_INT4,
    *_VLLM_CUTLASS[:2],
    *_deepep(),
    _wideep("fp8_block"),
)


def _more_blackwell(device: str) -> tuple[MoeSource, ...]:
    suffix = "_situ_as_silu" if device.startswith("gb") else ""
    return (
        MoeSource("int4_bf16", *_FLASHINFER),
        *(MoeSource(dtype, *_TRITON) for dtype in ("bf16", "fp8_block")),
        MoeSource("mxfp4_mxfp8", "flashinfer_mxfp4", "sglang", "sglang_mxfp4_flashinfer_trtllm_moe"),
        *(MoeSource(dtype, *_NONGATED) for dtype in ("bf16", "fp8", "nvfp4")),
        MoeSource("mxfp4_bf16", "vllm_marlin", "vllm", f"{_VLLM_MXFP4_MARLIN}{suffix}"),
        *_VLLM_CUTLASS[1:],
        *(
            MoeSource(dtype, "vllm_modular", "vllm", f"vllm_{name}expertsmodular")
            for dtype, name in (
                ("fp8_block", "fp8moe_flashinfer_trtllm_trtllmfp8"),
                ("nvfp4", "compressedtensorsw4a4nvfp4moe_flashinfer_trtllm_trtllmnvfp4"),
                ("mxfp4_mxfp8", "mxfp4moe_flashinfer_trtllm_mxfp4_mxfp8_trtllmmxfp4"),
            )
        ),
        _VLLM_INT4,
        *_deepep(),
        _wideep("nvfp4"),
    )


_L40S = (
    *(MoeSource(dtype, *_TRITON) for dtype in ("bf16", "mxfp4_bf16")),
    MoeSource("mxfp4_bf16", "triton_situ", "sglang", "sglang_fused_moe_triton_situ_as_silu"),
    MoeSource("int4_bf16", *_MARLIN),
    *(MoeSource(dtype, *kernel) for dtype in ("bf16", "fp8") for kernel in (_CUTLASS, _NONGATED)),
    MoeSource("fp8_block", "vllm_triton", "vllm", "vllm_fp8moe_triton_tritonexperts"),
    MoeSource("fp8", "vllm_triton", "vllm", "vllm_modeloptfp8moe_triton_tritonexperts"),
    MoeSource("bf16", "vllm_triton", "vllm", "vllm_unquantizedfusedmoe_triton_tritonexperts"),
    _VLLM_INT4,
    _VLLM_GPTOSS_MARLIN,
)
_RTX_PRO_6000 = (
    *(MoeSource(dtype, *_SGLANG_CUTLASS) for dtype in ("bf16", "nvfp4")),
    *(MoeSource(dtype, *_TRITON) for dtype in ("bf16", "fp8_block")),
    MoeSource("mxfp4_bf16", *_MARLIN_SITU),
    *(MoeSource(dtype, *_MARLIN) for dtype in ("int4_bf16", "mxfp4_bf16")),
    *(MoeSource(dtype, *_CUTLASS) for dtype in ("bf16", "fp8", "nvfp4", "mxfp4_mxfp8")),
    *(MoeSource(dtype, *_NONGATED) for dtype in ("bf16", "fp8", "nvfp4")),
    MoeSource("fp8_block", "trtllm_triton", "trtllm", "moe_torch_flow_triton_fp8_block"),
    *_VLLM_CUTLASS[1:],
    _VLLM_INT4,
    _VLLM_GPTOSS_MARLIN,
    _wideep("nvfp4"),
)
_A100 = (
    MoeSource("bf16", *_TRITON),
    MoeSource("bf16", "vllm_triton", "vllm", "vllm_fused_moe"),
    MoeSource("bf16", *_TRTLLM),
    MoeSource("int4_bf16", *_MARLIN),
)
_B60 = (
    *(MoeSource(dtype, "vllm_xpu", "vllm", "vllm_xpu_moe") for dtype in ("bf16", "fp8")),
    MoeSource("mxfp4_bf16", "vllm_xpu", "vllm", "vllm_xpu_moe_mxfp4"),
)

_NO_MIN_LATENCY = tuple(source for source in _BLACKWELL if source.kernel != "min_latency")
_OF_DEVICE = {
    "a100_sxm_80gb": _A100,
    "h100_sxm": _HOPPER + _H100 + _MORE_HOPPER,
    "h200_sxm": _HOPPER + _H200 + _MORE_HOPPER,
    "b200_sxm": _BLACKWELL + _B200 + _more_blackwell("b200_sxm"),
    "gb200": _BLACKWELL + _more_blackwell("gb200"),
    "b300_sxm": _NO_MIN_LATENCY + _more_blackwell("b300_sxm"),
    "gb300": _NO_MIN_LATENCY + _more_blackwell("gb300"),
    "l40s": _L40S,
    "rtx_pro_6000": _RTX_PRO_6000,
    "arc_pro_b60": _B60,
}


def moe_sources(device: str) -> Iterator[MoeSource]:
    """The kernels of routed experts that are calibrated on a device."""
    yield from _OF_DEVICE[device]
