import pytest

from hardware_specs.library import load_system
from simulator.costs.calibration import shipped_calibrations
from simulator.costs.kernel_choice import BACKENDS
from simulator.costs.kernel_sources import SOURCES, entry_of
from simulator.costs.library import KernelLibrary


@pytest.mark.parametrize(
    ("family", "source", "dtype", "entry"),
    [
        ("gemm", "torch_flow", "bf16", ("trtllm", "cublas")),
        ("gemm", "sglang_deepgemm_gemm_nt_f8f8bf16", "fp8_block", ("sglang", "sglang")),
        ("moe", "vllm_fused_moe", "bf16", ("vllm", "vllm_triton")),
        ("moe", "sglang_fused_moe_triton", "fp8_block", ("sglang", "triton")),
        ("attention_decode", "triton", "fp8", ("sglang", "sglang_triton")),
        ("attention_prefill", "vllm_flashinfer_trtllmprefill", "bf16", ("vllm", "vllm")),
        ("mla_decode", "default", "fp8", ("trtllm", "trtllm")),
    ],
)
def test_a_source_of_the_tables_is_one_entry(
    family: str, source: str, dtype: str, entry: tuple[str, str]
) -> None:
    found = entry_of(family, source, dtype)
    assert found is not None
    assert (found.engine, found.kernel) == entry


def test_names_are_exact_and_go_with_their_dtype() -> None:
    assert entry_of("moe", "triton", "bf16") is None
    assert entry_of("gemm", "torch_flow", "int8_bf16") is None
    assert entry_of("gemm", "Torch_Flow", "bf16") is None


@pytest.mark.parametrize("family", SOURCES)
def test_every_entry_that_a_source_names_is_calibrated_on_some_device(family: str) -> None:
    known = {
        (entry.dtype, entry.kernel)
        for device in shipped_calibrations().devices
        for entry in device.entries
        if entry.family == family
    }
    for (source, dtype), named in SOURCES[family].items():
        assert named.engine in (*BACKENDS, "nccl"), source
        if named.engine != "nccl":
            kinds = [
                kernel for of, kernel in known if of == dtype and f"{kernel}_".startswith(f"{named.kernel}_")
            ]
            assert kinds, (source, dtype, named.kernel)


def test_sglang_quantises_as_vllm_does_unless_its_benchmark_is_asked_for() -> None:
    # its scaling in several operators takes 497 us for 8192 x 8192 on an H200, vLLM's kernel 49 us
    system = load_system("h200_sxm")
    of_engine = [
        KernelLibrary(system, engine).sequences.quantize(8192, 8192) for engine in ("sglang", "vllm")
    ]
    assert of_engine[0].latency_s == of_engine[1].latency_s == pytest.approx(49e-6, rel=0.15)
    timed = KernelLibrary(system, "sglang", timed_kernel="sglang_matrix").sequences.quantize(8192, 8192)
    assert timed.latency_s == pytest.approx(497e-6, rel=0.15)
