"""The list of kernels that are calibrated: which tables of which device, framework and release."""

from collections.abc import Iterator
from dataclasses import replace

from simulator.costs.collectives import RING_OPS
from simulator.measured import (
    kernel_attention_tables,
    kernel_collective_tables,
    kernel_gemm_tables,
    kernel_march_tables,
    kernel_moe_tables,
)
from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_moe_cases import moe_sources
from simulator.measured.kernel_releases import BLACKWELL, DEVICES, GDDR, HOPPER, NCCL_RELEASE, newest
from simulator.measured.kernel_source_cases import source_cases

HOPPER_AND_BLACKWELL = (*HOPPER, *BLACKWELL)
_NO_FP8 = ("a100_sxm_80gb", "arc_pro_b60")

_TABLES = (
    kernel_gemm_tables.TABLES
    | kernel_attention_tables.TABLES
    | kernel_moe_tables.TABLES
    | kernel_collective_tables.TABLES
    | kernel_march_tables.TABLES
)

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
    if device == "arc_pro_b60":
        for dtype in ("bf16", "fp8"):
            yield _case(device, "gemm", dtype, "vllm", newest(device, "vllm"))
        return
    trtllm, blackwell = newest(device, "trtllm"), device in BLACKWELL
    has_fp4 = blackwell or device == "rtx_pro_6000"
    yield _case(device, "gemm", "bf16", "cublas", trtllm)
    yield _case(device, "batched_gemm", "bf16", "mla_bmm", trtllm)
    if device == "a100_sxm_80gb":
        return
    form = _UMMA if blackwell else ()
    yield _case(device, "gemm", "fp8", "trtllm", trtllm)
    yield _case(device, "gemm", "fp8_block", "trtllm", trtllm, form=form)
    if has_fp4:
        yield _case(device, "gemm", "nvfp4", "trtllm", trtllm, form=form)
    for framework in ("vllm", "sglang"):
        for dtype in ("fp8", "nvfp4") if has_fp4 else ("fp8",):
            yield _case(device, "gemm", dtype, framework, newest(device, framework), form=form)


def _attention_cases(device: str) -> Iterator[KernelCase]:
    if device == "arc_pro_b60":
        for dtype in ("bf16", "fp8"):
            yield from _attention(device, "vllm", dtype, "gqa", "mha")
        return
    trtllm = newest(device, "trtllm", table="mla")
    yield _case(device, "mla_prefill", "bf16", "trtllm", trtllm)
    for kv_dtype in ("bf16", "fp8"):
        yield _case(device, "mla_decode", kv_dtype, "trtllm", trtllm)
    for dtype in ("bf16",) if device == "a100_sxm_80gb" else ("bf16", "fp8"):
        for framework in ("vllm", "trtllm"):
            yield from _attention(device, framework, dtype, "gqa", "mha")
    if device == "a100_sxm_80gb":
        return
    for dtype in ("bf16", "fp8"):
        if device not in GDDR:
            yield from _attention(device, "sglang", dtype, "gqa")
        for framework in ("vllm", "trtllm", "sglang")[: 2 if device in GDDR else 3]:
            yield from _attention(device, framework, dtype, "gqa", over="_window")


def _attention(device: str, framework: str, dtype: str, *kinds: str, over: str = "") -> Iterator[KernelCase]:
    """Prefill and decode of one framework over a cache of a dtype.

    SGLang's tables name several kernels, of which the default of the generation is taken.
    """
    default = "trtllm_mha" if device in BLACKWELL else "fa3"
    source = default if framework == "sglang" else ""
    table = newest(device, framework)
    yield _case(device, "attention_prefill", dtype, f"{framework}{over}", table, source)
    for kind in kinds:
        yield _case(device, "attention_decode", dtype, f"{framework}_{kind}{over}", table, source)


def _moe_cases(device: str) -> Iterator[KernelCase]:
    for timed in moe_sources(device):
        releases = ((timed.framework, timed.release),) if timed.release else newest(device, timed.framework)
        case = _case(device, "moe", timed.dtype, timed.kernel, releases, timed.source, timed.form)
        siblings = _moe_cases(timed.prior_of) if timed.prior_of else ()
        same = (other for other in siblings if (other.dtype, other.kernel) == (case.dtype, case.kernel))
        yield replace(case, sibling=next(same, None))


def _collective_cases(device: str) -> Iterator[KernelCase]:
    yield from _ring_cases(device)
    if device in (*_NO_FP8, *GDDR):
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
_PRIOR_OF = {"gb200": "b200_sxm", "gb300": "b300_sxm"}
_PCIE_RANKS = (2, 4, 8)
_OVER_TRAYS = (8, 16)


def _ring_cases(device: str) -> Iterator[KernelCase]:
    """All-reduce kernels and NCCL; boards of two group sizes have too few without a sibling's constants.

    In PCIe boxes what binds changes with the group (a switch, a root, a socket): each size is a case.
    """
    if device == "arc_pro_b60":
        for op in ("all_reduce", "all_gather", "reduce_scatter"):
            for ranks in (2, 4):
                yield _case(device, "oneccl", "any", f"{op}_{ranks}", (("oneccl", "2021.17.2"),))
        return
    siblings = {case.kernel: case for case in _ring_cases(_PRIOR_OF[device])} if device in _PRIOR_OF else {}
    groups = tuple(f"_{ranks}" for ranks in _PCIE_RANKS) if device in GDDR else ("",)
    for group in groups:
        for name, source in _ALL_REDUCE.items():
            if name == "sglang" and device in ("gb200", *GDDR):
                continue  # GB200: two group sizes, one of them three times slower than NVLink between two
            old = name == "sglang" and device not in ("b300_sxm", "gb300")
            releases = (_SGLANG_ALL_REDUCE,) if old else newest(device, name, table="custom_allreduce")
            case = _case(device, "custom_all_reduce", "any", f"{name}{group}", releases, source)
            yield replace(case, sibling=siblings.get(name))
        releases = newest(device, "sglang")
        case = _case(
            *(device, "custom_all_reduce", "any", f"sglang_jit{group}", releases),
            _ALL_REDUCE["sglang"],
        )
        yield replace(case, sibling=siblings.get("sglang_jit"))
        for op in RING_OPS:
            case = _case(device, "nccl", "any", f"{op}{group}", (("nccl", NCCL_RELEASE[device]),))
            yield replace(case, sibling=siblings.get(op))
    if device == "gb300":
        yield from _over_trays(device)
        for shot in ("oneshot", "twoshot"):
            releases, source = newest(device, "trtllm"), f"TRTLLM_MNNVL_{shot}"
            yield _case(device, "custom_all_reduce", "any", f"trtllm_mnnvl_{shot}", releases, source)


def _over_trays(device: str) -> Iterator[KernelCase]:
    """All-reduce over several trays of one NVLink domain, each group size a case."""
    for ranks in _OVER_TRAYS:
        for name in ("vllm", "sglang", "sglang_jit"):
            framework = name.partition("_")[0]
            releases = newest(device, framework, table="custom_allreduce")
            yield _case(
                *(device, "custom_all_reduce", "any", f"{name}_{ranks}", releases), _ALL_REDUCE[framework]
            )


def serving_cases(device: str) -> Iterator[KernelCase]:
    """The kernels of a device that serving runs are priced with."""
    for maker in (_gemm_cases, _attention_cases, _moe_cases, _collective_cases):
        yield from maker(device)


def all_cases() -> tuple[KernelCase, ...]:
    """Every kernel that is calibrated, device by device."""
    return tuple(
        case for device in DEVICES for case in (*serving_cases(device), *source_cases(device, _case))
    )
