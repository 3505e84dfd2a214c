"""Every kernel that the newest tables time, and the case that is fitted on it or the reason why none is.

`python -m simulator.measured.kernel_inventory` prints them; a test holds that none is left without either.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd

from simulator.costs.kernel_sources import entry_of
from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_cases import all_cases
from simulator.measured.kernel_releases import DEVICES
from simulator.measured.silicon import canonical, device_folder

#: table -> families of the cases that read it
FAMILIES = {
    "gemm": ("gemm",),
    "mla_bmm": ("batched_gemm",),
    "context_attention": ("attention_prefill",),
    "generation_attention": ("attention_decode",),
    "context_mla": ("mla_prefill",),
    "generation_mla": ("mla_decode",),
    "encoder_attention": ("encoder_attention",),
    **dict.fromkeys(("moe", "wideep_moe", "wideep_context_moe", "wideep_generation_moe"), ("moe",)),
    "custom_allreduce": ("custom_all_reduce",),
    "nccl": ("nccl",),
    "oneccl": ("oneccl",),
    "moe_a2a": ("ep_low_latency", "ep_bulk"),
    "wideep_deepep_ll": ("ep_low_latency",),
    "wideep_deepep_normal": ("ep_bulk",),
    "trtllm_alltoall": ("ep_nvlink",),
    **dict.fromkeys(("gdn", "kda", "mamba2"), ("delta_rule", "causal_conv")),
    "computescale": ("quantize",),
    "scale_matrix": ("quantize",),
    "glm5_mqa_logits_module": ("index_scores",),
    "dsv4_paged_mqa_logits_module": ("index_scores",),
    "glm5_topk_module": ("index_choice",),
    "glm5_dsa_attn_module": ("sparse_attention",),
}
#: families whose entry a source and a dtype name; of the others the case says its source
_NAMED = (
    *("gemm", "batched_gemm", "attention_prefill", "attention_decode", "mla_prefill", "mla_decode"),
    *("encoder_attention", "moe", "custom_all_reduce"),
)
_MODULE = "a module, projections and all: graphs are priced operator by operator"
_NO_GRAPH = "no graph of the library has this operator"
#: table, engine, source, dtype as patterns, and why no case is fitted on such rows
REASONS = (
    (
        "gemm",
        "vllm",
        "*BlockScaledMMKernel",
        "fp8_block",
        "eager timings: 55 us and more are the host's launch",
    ),
    ("custom_allreduce", "*", "*_eager", "*", "eager timings: the host's launch"),
    ("computescale", "vllm", "*", "*", "a difference of two timings, zeros among them"),
    ("computescale", "sglang", "*", "*", "a difference of two timings, zeros among them"),
    ("*nccl", "*", "*", "int8", "moves bytes as the rows in 16 bits do"),
    ("nccl", "trtllm", "*", "*", "an older copy of NCCL's own table"),
    ("mla_*_module", "*", "*", "*", _MODULE),
    ("wideep_*_mla", "*", "*", "*", _MODULE),
    ("dsa_*_module", "*", "*", "*", _MODULE),
    ("wideep_*_mlp", "*", "*", "*", "a dense MLP of 18 rows: two GEMMs and an activation"),
    ("dsv4_*", "*", "*", "*", _NO_GRAPH),
    ("msa_*", "*", "*", "*", _NO_GRAPH),
    ("mhc_*", "*", "*", "*", _NO_GRAPH),
)


@dataclass(frozen=True, order=True)
class TimedKernel:
    """A kernel of the newest release of an engine in one table of one device."""

    device: str
    table: str
    engine: str
    release: str
    dtype: str
    source: str


def timed_kernels(device: str) -> Iterator[TimedKernel]:
    """Every kernel of the newest releases that the package has for a device."""
    newest: dict[tuple[str, str], Path] = {}
    for path in sorted(device_folder(device).glob("*/*/*/*_perf.parquet"), key=_release_number):
        newest[path.name.removesuffix("_perf.parquet"), path.parents[1].name] = path
    for (table, engine), path in newest.items():
        rows = pd.read_parquet(path)
        dtype = _dtype_column(rows)
        named = rows.assign(dtype=rows[dtype].map(canonical) if dtype else "any")
        for source, name in named[["kernel_source", "dtype"]].drop_duplicates().itertuples(index=False):
            yield TimedKernel(device, table, engine, path.parent.name, name, source)


def _release_number(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", path.parent.name))


def _dtype_column(rows: pd.DataFrame) -> str | None:
    """The column that the dtype of an entry stands for: of attention the cache's."""
    columns = ("kv_cache_dtype", "gemm_dtype", "bmm_dtype", "moe_dtype", "comm_dtype", "nccl_dtype")
    return next((name for name in (*columns, "attn_dtype", "quant_dtype") if name in rows), None)


def covering(kernel: TimedKernel, cases: Iterable[KernelCase]) -> KernelCase | None:
    """A case that is fitted on rows of the kernel, or None."""
    return next((case for case in cases if _covers(case, kernel)), None)


def _covers(case: KernelCase, kernel: TimedKernel) -> bool:
    family = case.family
    if case.device_key != kernel.device or family not in FAMILIES.get(kernel.table, ()):
        return False
    if family in _NAMED:
        dtype = "any" if family == "custom_all_reduce" else kernel.dtype
        entry = entry_of(family, kernel.source, dtype)
        return bool(entry) and case.dtype == dtype and _is_of(case.kernel, entry.kernel if entry else "")
    engine = case.releases[0][0]
    if family == "quantize" and case.kernel.endswith("_scale") != (kernel.table == "computescale"):
        return False
    return engine == kernel.engine and case.kernel_source in ("", kernel.source)


def _is_of(kernel: str, entry: str) -> bool:
    """Whether a case's kernel is the entry, or one of its kinds (`_gqa`, a group size)."""
    return kernel == entry or kernel.startswith(f"{entry}_")


def reason(kernel: TimedKernel) -> str | None:
    """Why no case is fitted on rows of the kernel, or None."""
    names = (kernel.table, kernel.engine, kernel.source, kernel.dtype)
    for *patterns, why in REASONS:
        if all(fnmatch(name, pattern) for name, pattern in zip(names, patterns, strict=True)):
            return why
    return None


def main() -> None:
    """Print every kernel with its case or reason."""
    cases = all_cases()
    for device in DEVICES:
        for kernel in sorted(timed_kernels(device)):
            case = covering(kernel, cases)
            what = case.label if case else reason(kernel) or "NOTHING"
            print(" | ".join((device, kernel.table, kernel.engine, kernel.dtype, kernel.source, what)))


if __name__ == "__main__":
    main()
