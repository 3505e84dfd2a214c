"""The list of kernels that are calibrated: which tables of which device, framework and release."""

from collections.abc import Iterator
from dataclasses import replace

from simulator.costs.collectives import RING_OPS
from simulator.measured import (
    kernel_attention_tables,
    kernel_collective_tables,
    kernel_gemm_tables,
    kernel_moe_tables,
)
from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_moe_cases import moe_sources

DEVICES = ("a100_sxm_80gb", "h100_sxm", "h200_sxm", "b200_sxm", "gb200")
HOPPER_AND_BLACKWELL = DEVICES[1:]
_BLACKWELL = ("b200_sxm", "gb200")

_TABLES = (
    kernel_gemm_tables.TABLES
    | kernel_attention_tables.TABLES
    | kernel_moe_tables.TABLES
    | kernel_collective_tables.TABLES
)

_NEWEST = {"trtllm": "1.3.0rc20", "vllm": "0.24.0", "sglang": "0.5.14"}
_ON_A100 = {"trtllm": "1.0.0", "vllm": "0.14.0", "sglang": "0.5.10"}
_NCCL_RELEASE = {
    "a100_sxm_80gb": "2.27.3",
    "h100_sxm": "2.27.3",
    "h200_sxm": "2.26.2",
    "b200_sxm": "2.27.3",
    "gb200": "2.23",
}


def _newest(device: str, *frameworks: str) -> tuple[tuple[str, str], ...]:
    releases = _ON_A100 if device == "a100_sxm_80gb" else _NEWEST
    return tuple((framework, releases[framework]) for framework in frameworks)


#: chosen on the `choose` sites: the 128-row instructions beat free tiling by 0.6 to 1.6 points of MAPE
_UMMA = (("tiling", "umma"),)


def _case(
    device: str,
    family: str,
    dtype: str,
    kernel: str,
    releases: tuple[tuple[str, str], ...],
    kernel_source: str = "",
    form: tuple[tuple[str, str], ...] = (),
) -> KernelCase:
    return KernelCase(device, family, dtype, kernel, releases, _TABLES[family], kernel_source, form)


def _gemm_cases(device: str) -> Iterator[KernelCase]:
    trtllm, blackwell = _newest(device, "trtllm"), device in _BLACKWELL
    yield _case(device, "gemm", "bf16", "cublas", trtllm)
    yield _case(device, "batched_gemm", "bf16", "mla_bmm", trtllm)
    if device == "a100_sxm_80gb":
        return
    form = _UMMA if blackwell else ()
    yield _case(device, "gemm", "fp8", "trtllm", trtllm)
    yield _case(device, "gemm", "fp8_block", "trtllm", trtllm, form=form)
    if blackwell:
        yield _case(device, "gemm", "nvfp4", "trtllm", trtllm, form=form)
    for framework in ("vllm", "sglang"):
        for dtype in ("fp8", "nvfp4") if blackwell else ("fp8",):
            yield _case(device, "gemm", dtype, framework, _newest(device, framework), form=form)


def _attention_cases(device: str) -> Iterator[KernelCase]:
    trtllm = _newest(device, "trtllm")
    yield _case(device, "mla_prefill", "bf16", "trtllm", trtllm)
    for kv_dtype in ("bf16", "fp8"):
        yield _case(device, "mla_decode", kv_dtype, "trtllm", trtllm)
    for dtype in ("bf16",) if device == "a100_sxm_80gb" else ("bf16", "fp8"):
        for framework in ("vllm", "trtllm"):
            yield from _attention(device, framework, dtype, "gqa", "mha")
    if device == "a100_sxm_80gb":
        return
    for dtype in ("bf16", "fp8"):
        yield from _attention(device, "sglang", dtype, "gqa")
        for framework in ("vllm", "trtllm", "sglang"):
            yield from _attention(device, framework, dtype, "gqa", over="_window")


def _attention(device: str, framework: str, dtype: str, *kinds: str, over: str = "") -> Iterator[KernelCase]:
    """Prefill and decode of one framework over a cache of a dtype.

    SGLang's tables name several kernels, of which the default of the generation is taken.
    """
    default = "trtllm_mha" if device in _BLACKWELL else "fa3"
    source = default if framework == "sglang" else ""
    table = _newest(device, framework)
    yield _case(device, "attention_prefill", dtype, f"{framework}{over}", table, source)
    for kind in kinds:
        yield _case(device, "attention_decode", dtype, f"{framework}_{kind}{over}", table, source)


def _moe_cases(device: str) -> Iterator[KernelCase]:
    for timed in moe_sources(device):
        releases = ((timed.framework, timed.release),) if timed.release else _newest(device, timed.framework)
        case = _case(device, "moe", timed.dtype, timed.kernel, releases, timed.source, timed.form)
        siblings = _moe_cases(timed.prior_of) if timed.prior_of else ()
        same = (other for other in siblings if (other.dtype, other.kernel) == (case.dtype, case.kernel))
        yield replace(case, sibling=next(same, None))


def _collective_cases(device: str) -> Iterator[KernelCase]:
    yield from _ring_cases(device)
    if device == "a100_sxm_80gb":
        return
    places = ("node", "cluster") if device in ("h100_sxm", "h200_sxm") else ("node",)
    for phase in ("dispatch", "combine"):
        for place in places:
            release = "0.5.12" if place == "node" else "0.5.6.post2"
            for family in ("ep_low_latency", "ep_bulk"):
                yield _case(device, family, "any", f"{phase}_{place}", (("sglang", release),))


_ALL_REDUCE = {"vllm": "vLLM_custom_graph", "trtllm": "TRTLLM", "sglang": "SGLang_CustomAllReduce_graph"}
#: the kernel of the releases whose runs are predicted; that of 0.5.14 is new, and up to twice as fast
_SGLANG_ALL_REDUCE = ("sglang", "0.5.9")


def _ring_cases(device: str) -> Iterator[KernelCase]:
    """All-reduce kernels and NCCL; GB200 has two group sizes, too few without the B200's constants."""
    siblings = {case.kernel: case for case in _ring_cases("b200_sxm")} if device == "gb200" else {}
    for name, source in _ALL_REDUCE.items():
        if (device, name) == ("gb200", "sglang"):
            continue  # two group sizes, of which one is three times slower than NVLink between two devices
        releases = (_SGLANG_ALL_REDUCE,) if name == "sglang" else _newest(device, name)
        case = _case(device, "custom_all_reduce", "any", name, releases, source)
        yield replace(case, sibling=siblings.get(name))
    for op in RING_OPS:
        case = _case(device, "nccl", "any", op, (("nccl", _NCCL_RELEASE[device]),))
        yield replace(case, sibling=siblings.get(op))


def all_cases() -> tuple[KernelCase, ...]:
    """Every kernel that is calibrated, device by device."""
    makers = (_gemm_cases, _attention_cases, _moe_cases, _collective_cases)
    return tuple(case for device in DEVICES for maker in makers for case in maker(device))
