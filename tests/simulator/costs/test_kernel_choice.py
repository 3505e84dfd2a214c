import pytest

from hardware_specs.records.errors import InputError
from simulator.costs.kernel_choice import (
    BACKENDS,
    attention_kernels,
    decode_compute_dtype,
    decode_kernels,
    expert_dtype,
    moe_kernels,
)


@pytest.mark.parametrize(
    ("dtype", "architecture", "product"),
    [
        ("mxfp4", "hopper", "mxfp4_bf16"),
        ("mxfp4", "ampere", "mxfp4_bf16"),
        ("mxfp4", "blackwell", "mxfp4_mxfp8"),
        ("mxfp4_bf16", "blackwell", "mxfp4_bf16"),
        ("bfloat16", "blackwell", "bf16"),
        ("nvfp4", "blackwell", "nvfp4"),
    ],
)
def test_only_blackwell_multiplies_mxfp4_weights_by_8_bit_rows(
    dtype: str, architecture: str, product: str
) -> None:
    assert expert_dtype(dtype, architecture) == product


def test_an_unknown_type_of_experts_is_refused() -> None:
    with pytest.raises(InputError, match=r"dtype must be one of bf16, .*; given mxfp5"):
        expert_dtype("mxfp5", "hopper")


def test_hopper_expands_an_fp8_cache_and_blackwell_multiplies_it() -> None:
    assert [decode_compute_dtype("fp8", name) for name in ("ampere", "hopper", "blackwell")] == [
        "bf16",
        "bf16",
        "fp8",
    ]
    assert decode_compute_dtype("bf16", "blackwell") == "bf16"


def test_an_engine_prefers_its_own_attention_and_a_window_that_of_windows() -> None:
    assert attention_kernels("sglang").kernels == ("sglang", "vllm", "trtllm")
    assert attention_kernels("trtllm", windowed=True).kernels == (
        *("trtllm_window", "vllm_window"),
        *("trtllm", "vllm"),
    )
    assert decode_kernels("vllm", grouped=True, windowed=True).kernels == (
        *("vllm_gqa_window", "trtllm_gqa_window"),
        *("vllm_gqa", "trtllm_gqa"),
    )
    assert decode_kernels("vllm", grouped=False, windowed=True).kernels == ("vllm_mha", "trtllm_mha")


@pytest.mark.parametrize("architecture", ["ampere", "ada", "hopper", "blackwell", "blackwell_rtx", "xe2"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_experts_of_every_engine_fall_back_on_any_kernel(backend: str, architecture: str) -> None:
    kernels = moe_kernels(backend, "fp8", architecture).kernels
    assert {"cutlass", "triton", "flashinfer", "vllm_triton", "vllm_flashinfer", "trtllm"} <= set(kernels)


def test_vllm_runs_its_own_expert_kernels_before_those_of_others() -> None:
    assert moe_kernels("vllm", "fp8_block", "hopper").kernels[:2] == ("vllm_triton", "triton")
    assert moe_kernels("vllm", "fp8_block", "blackwell").kernels[:2] == ("vllm_triton", "vllm_flashinfer")
    assert moe_kernels("vllm", "nvfp4", "blackwell").kernels[:2] == ("vllm_flashinfer", "flashinfer")


def test_an_engine_keeps_its_own_expert_kernels_on_a_generation_without_an_entry() -> None:
    assert moe_kernels("vllm", "bf16", "ada").kernels[:2] == ("vllm_triton", "triton")
    assert moe_kernels("sglang", "bf16", "blackwell_rtx").kernels[0] == "triton"
    assert moe_kernels("trtllm", "bf16", "ampere").kernels[0] == "cutlass"
