import pytest

from simulator.measured.kernel_cases import all_cases
from simulator.measured.kernel_inventory import TimedKernel, covering, reason, timed_kernels
from simulator.measured.kernel_releases import DEVICES
from simulator.measured.silicon import is_installed

CASES = all_cases()


@pytest.mark.skipif(not is_installed(), reason="the kernel tables (extra silicon) are absent")
@pytest.mark.parametrize("device", DEVICES)
def test_every_kernel_of_the_newest_tables_is_fitted_or_has_a_reason(device: str) -> None:
    kernels = list(timed_kernels(device))
    assert len(kernels) > 5
    left_out = [kernel for kernel in kernels if not covering(kernel, CASES) and not reason(kernel)]
    assert left_out == []


def test_a_kernel_that_nobody_fitted_is_neither_covered_nor_excused() -> None:
    new = TimedKernel("h200_sxm", "gemm", "vllm", "1.0.0", "fp8", "ANewKernel")
    assert covering(new, CASES) is None
    assert reason(new) is None


def test_a_dtype_or_device_that_a_source_does_not_have_is_not_covered() -> None:
    known = TimedKernel("h200_sxm", "gemm", "trtllm", "1.3.0rc20", "bf16", "torch_flow")
    case = covering(known, CASES)
    assert case is not None
    assert case.label == "gemm bf16 cublas h200_sxm"
    other = TimedKernel("h200_sxm", "gemm", "trtllm", "1.3.0rc20", "int8_bf16", "torch_flow")
    assert covering(other, CASES) is None


def test_an_eager_table_is_excused_by_its_engine_and_dtype_alone() -> None:
    eager = TimedKernel("h200_sxm", "gemm", "vllm", "0.24.0", "fp8_block", "DeepGemmFp8BlockScaledMMKernel")
    assert "eager" in (reason(eager) or "")
    assert reason(TimedKernel("h200_sxm", "gemm", "sglang", "0.5.14", "fp8_block", "other")) is None


def test_no_two_cases_are_the_same_entry() -> None:
    keys = [(case.device_key, case.family, case.dtype, case.kernel) for case in CASES]
    assert len(keys) == len(set(keys))
