"""The kernels that are calibrated: for each, the table rows, the shapes that its formula takes, and its site.

A case is one (device, family, dtype, kernel library). Rows are a frame whose columns are the dimensions, `latency_s`
and `site`; `latency` prices them in the warm form of the benchmark that measured them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hardware_specs.library import load_system
from simulator.costs import collectives, decode, gemm, moe, prefill
from simulator.costs.calibration import CONSTANTS_OF_FAMILY
from simulator.costs.estimates import FloatArray
from simulator.costs.expert_load import ExpertLoad, expert_load
from simulator.costs.figures import DeviceFigures, element_bytes
from simulator.costs.kernel_choice import mla_compute_dtype
from simulator.measured.kernel_split import SPLIT_FAMILIES, Part, part_of
from simulator.measured.silicon import read_table

DEVICES = ("a100_sxm_80gb", "h100_sxm", "h200_sxm", "b200_sxm", "gb200")
HOPPER_AND_BLACKWELL = DEVICES[1:]
_BLACKWELL = ("b200_sxm", "gb200")

Rows = pd.DataFrame
Reader = Callable[["KernelCase"], Rows]


@dataclass(frozen=True)
class KernelCase:
    """One kernel on one device. `tables` are the (framework, release) pairs whose rows are pooled."""

    device_key: str
    family: str
    dtype: str
    kernel: str
    tables: tuple[tuple[str, str], ...]
    kernel_source: str = ""
    form: tuple[tuple[str, str], ...] = ()  # choices of form, as fields of the constants

    @property
    def label(self) -> str:
        """How the case is named in tables of scores."""
        return f"{self.family} {self.dtype} {self.kernel} {self.device_key}"

    @property
    def source(self) -> str:
        """Where the rows come from, for the calibration file."""
        pairs = ", ".join(f"{framework} {release}" for framework, release in self.tables)
        return f"aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0), tables of {pairs}"

    @property
    def is_split(self) -> bool:
        """Whether sites are split by hash; otherwise each is left out in turn."""
        return self.family in SPLIT_FAMILIES

    @cached_property
    def device(self) -> DeviceFigures:
        """The datasheet figures that the formula reads."""
        return DeviceFigures.from_system(load_system(self.device_key))

    @cached_property
    def rows(self) -> Rows:
        """The measured rows, without repeats of a call."""
        rows = _READERS[self.family](self)
        rows = rows[rows["latency_s"] > 0]
        keys = [column for column in rows.columns if column != "latency_s"]
        return rows.groupby(keys, as_index=False, sort=True)["latency_s"].median()

    def part(self, part: Part) -> Rows:
        """The rows of one part of the split."""
        parts = self.rows["site"].map({site: part_of(self.family, site) for site in self.rows["site"].unique()})
        return self.rows[parts == part]

    def shape(self, rows: Rows) -> Any:
        """What the family's formula takes."""
        return _SHAPES[self.family](self, rows)

    def latency_s(self, shape: Any, constants: Any) -> FloatArray:
        """Predicted latencies as the benchmark measures them: operands warm where it leaves them so."""
        return _LATENCIES[self.family](self, shape, constants)

    def roofline_s(self, shape: Any) -> FloatArray:
        """The plain roofline of the same calls."""
        return _ROOFLINES[self.family](self, shape)

    @property
    def prior_constants(self) -> Any:
        """The family's constants at the medians of their priors, in the form of this case."""
        return CONSTANTS_OF_FAMILY[self.family](**dict(self.form))


def _columns(rows: Rows, *names: str) -> list[FloatArray]:
    return [rows[name].to_numpy(np.float64) for name in names]


def _with_site(rows: Rows, *names: str) -> Rows:
    columns = [rows[name].astype(int).astype(str) for name in names]
    site = columns[0].str.cat(columns[1:], sep=",") if len(columns) > 1 else columns[0]
    return rows.assign(site=site)


def _read(case: KernelCase, folder: str, table: str) -> Rows:
    return pd.concat([read_table(case.device_key, folder, table, *pair) for pair in case.tables])


# ---------------------------------------------------------------------------------------------- GEMM


def _gemm_rows(case: KernelCase) -> Rows:
    rows = pd.concat(
        read_table(case.device_key, "gemm", "gemm", *pair).assign(trtllm=pair[0] == "trtllm") for pair in case.tables
    )
    rows = rows[(rows["gemm_dtype"] == case.dtype) & (rows["n"] >= 128) & (rows["k"] >= 128)]
    return _with_site(rows[["m", "n", "k", "trtllm", "latency_s"]], "n", "k")


def _gemm_shape(case: KernelCase, rows: Rows) -> gemm.GemmShape:
    m, n, k = _columns(rows, "m", "n", "k")
    size = element_bytes(case.dtype)
    # TensorRT-LLM's benchmark cycles through as many weights as fill the L2 (five at most), the others through six
    filling = np.clip(np.ceil(case.device.l2_bytes / (n * k * size)), 1, 5)
    copies = np.where(rows["trtllm"].to_numpy(bool), filling, 6.0)
    return gemm.GemmShape(m, n, k, size, weight_copies=copies, quantizes_input=case.dtype != "bf16")


def _bmm_rows(case: KernelCase) -> Rows:
    rows = _read(case, "mla_bmm", "mla_bmm")
    rows = rows[rows["bmm_dtype"] == case.dtype]
    into_latent = rows["op_name"] == "mla_gen_pre"
    rows = rows.assign(n=np.where(into_latent, 512, 128), k=np.where(into_latent, 128, 512))
    return _with_site(rows[["num_tokens", "num_heads", "n", "k", "latency_s"]], "num_heads")


def _bmm_shape(case: KernelCase, rows: Rows) -> gemm.GemmShape:
    m, n, k, batch = _columns(rows, "num_tokens", "n", "k", "num_heads")
    return gemm.GemmShape(m, n, k, element_bytes(case.dtype), batch)


def _gemm_latency(case: KernelCase, shape: gemm.GemmShape, constants: gemm.GemmConstants) -> FloatArray:
    peak = case.device.peak(case.dtype)
    return gemm.gemm_latency(shape, peak, case.device, constants, cold=False).latency_s


def _gemm_roofline(case: KernelCase, shape: gemm.GemmShape) -> FloatArray:
    return gemm.roofline_s(shape, case.device.peak(case.dtype), case.device)


# ----------------------------------------------------------------------------------------- attention


def _mla_prefill_rows(case: KernelCase) -> Rows:
    rows = _read(case, "mla", "context_mla")
    rows = rows[(rows["mla_dtype"] == case.dtype) & (rows["kv_cache_dtype"] == "bf16")]
    return _with_site(rows[["batch_size", "isl", "num_heads", "latency_s"]], "num_heads")


def _mla_prefill_shape(case: KernelCase, rows: Rows) -> prefill.PrefillShape:
    return prefill.mla_prefill_shape(*_columns(rows, "batch_size", "isl", "num_heads"), appends=True)


def _mla_decode_rows(case: KernelCase) -> Rows:
    rows = _read(case, "mla", "generation_mla")
    rows = rows[rows["kv_cache_dtype"] == case.dtype]
    rows = rows.assign(context=rows["step"] + rows["isl"])
    return _with_site(rows[["batch_size", "context", "num_heads", "latency_s"]], "num_heads")


def _mla_decode_shape(case: KernelCase, rows: Rows) -> decode.DecodeShape:
    return decode.mla_decode_shape(
        *_columns(rows, "batch_size", "context", "num_heads"), kv_bytes=element_bytes(case.dtype)
    )


_ATTENTION = ("num_heads", "num_key_value_heads", "head_dim", "window_size")


def _attention_rows(case: KernelCase, table: str) -> Rows:
    """Rows of the usual head sizes without a window; more than 16 queries a group leave the packed kernels."""
    rows = _read(case, "attention", table)
    if "window_size" not in rows:
        rows = rows.assign(window_size=0)
    kv_heads = np.where(rows["num_key_value_heads"] > 0, rows["num_key_value_heads"], rows["num_heads"])
    rows = rows.assign(num_key_value_heads=kv_heads, window_size=rows["window_size"].fillna(0))
    plain = (rows["window_size"] == 0) & rows["head_dim"].isin([64, 128]) & (rows["attn_dtype"] == "bf16")
    group = rows["num_heads"] / rows["num_key_value_heads"]
    rows = rows[plain & (rows["kv_cache_dtype"] == case.dtype) & (group <= 16)]
    if case.kernel_source:
        rows = rows[rows["kernel_source"] == case.kernel_source]
    return _with_site(rows, *_ATTENTION)


def _attention_prefill_rows(case: KernelCase) -> Rows:
    rows = _attention_rows(case, "context_attention")
    return rows[["batch_size", "isl", *_ATTENTION, "site", "latency_s"]]


def _attention_prefill_shape(case: KernelCase, rows: Rows) -> prefill.PrefillShape:
    b, s, h, kv, d, w = _columns(rows, "batch_size", "isl", *_ATTENTION)
    return prefill.PrefillShape(b, s, h, kv, d, d, w, element_bytes(case.dtype))


def _attention_decode_rows(case: KernelCase) -> Rows:
    rows = _attention_rows(case, "generation_attention")
    grouped = rows["num_heads"] > rows["num_key_value_heads"]
    rows = rows[grouped == case.kernel.endswith("_gqa")]
    rows = rows.assign(context=rows["step"] + 1)
    return rows[["batch_size", "context", *_ATTENTION, "site", "latency_s"]]


def _attention_decode_shape(case: KernelCase, rows: Rows) -> decode.DecodeShape:
    b, s, h, kv, d = _columns(rows, "batch_size", "context", *_ATTENTION[:3])
    return decode.DecodeShape(b, s, h, kv, d, d, 2 * d * element_bytes(case.dtype))


def _compute_dtype(case: KernelCase) -> str:
    return mla_compute_dtype(case.dtype, case.device.architecture) if case.family == "mla_decode" else "bf16"


def _prefill_latency(case: KernelCase, shape: Any, constants: Any) -> FloatArray:
    return prefill.prefill_latency(shape, case.device.peak("bf16"), case.device, constants).latency_s


def _prefill_roofline(case: KernelCase, shape: Any) -> FloatArray:
    return prefill.roofline_s(shape, case.device.peak("bf16"), case.device)


def _decode_latency(case: KernelCase, shape: Any, constants: Any) -> FloatArray:
    peak = case.device.peak(_compute_dtype(case))
    return decode.decode_latency(shape, peak, case.device, constants, cold=False).latency_s


def _decode_roofline(case: KernelCase, shape: Any) -> FloatArray:
    return decode.roofline_s(shape, case.device.peak(_compute_dtype(case)), case.device)


# --------------------------------------------------------------------------------- mixture of experts

_MOE = ("hidden_size", "inter_size", "topk", "num_experts")


def _moe_rows(case: KernelCase) -> Rows:
    rows = _read(case, "moe", "moe")
    rows = rows[(rows["moe_dtype"] == case.dtype) & (rows["kernel_source"] == case.kernel_source)]
    columns = ["num_tokens", *_MOE, "moe_tp_size", "moe_ep_size", "distribution", "latency_s"]
    return _with_site(rows[columns], *_MOE)


def _moe_shape(case: KernelCase, rows: Rows) -> moe.MoeShape:
    tokens, hidden, inter, topk, experts = _columns(rows, "num_tokens", *_MOE)
    tp, ep = _columns(rows, "moe_tp_size", "moe_ep_size")
    size = element_bytes(case.dtype)
    return moe.MoeShape(_loads(rows), size, tokens, hidden, inter / tp, topk, experts / ep)


def _loads(rows: Rows) -> ExpertLoad:
    """Load of the busiest rank of each row, computed once for each routing."""
    stats = np.empty((len(rows), 5))
    keys = ["num_experts", "topk", "moe_ep_size", "distribution"]
    for (experts, topk, ep, distribution), index in rows.reset_index(drop=True).groupby(keys).indices.items():
        tokens = rows["num_tokens"].to_numpy(np.float64)[index]
        load = expert_load(tokens, int(experts), int(topk), int(ep), str(distribution))
        stats[index] = np.column_stack([load.rows, load.active, load.tiles])
    return ExpertLoad(stats[:, 0], stats[:, 1], stats[:, 2:])


def _moe_latency(case: KernelCase, shape: moe.MoeShape, constants: moe.MoeConstants) -> FloatArray:
    return moe.moe_latency(shape, case.device.peak(case.dtype), case.device, constants).latency_s


def _moe_roofline(case: KernelCase, shape: moe.MoeShape) -> FloatArray:
    return moe.roofline_s(shape, case.device.peak(case.dtype), case.device)


# ---------------------------------------------------------------------------------------- collectives

_NCCL_NAME = {"all_to_all": "alltoall"}
_HALF_BYTES = 2


def _custom_rows(case: KernelCase) -> Rows:
    rows = _read(case, "comm", "custom_allreduce")
    return _ring_rows(rows[rows["kernel_source"] == case.kernel_source])


def _nccl_rows(case: KernelCase) -> Rows:
    rows = _read(case, "comm", "nccl")
    name = _NCCL_NAME.get(case.kernel, case.kernel)
    return _ring_rows(rows[(rows["op_name"] == name) & (rows["nccl_dtype"] == "half") & (rows["num_gpus"] <= 8)])


def _ring_rows(rows: Rows) -> Rows:
    rows = rows.assign(size_bytes=rows["message_size"].astype(float) * _HALF_BYTES)
    return _with_site(rows[["num_gpus", "size_bytes", "latency_s"]], "num_gpus")


def _custom_latency(case: KernelCase, rows: Rows, constants: Any) -> FloatArray:
    n, size = _columns(rows, "num_gpus", "size_bytes")
    return collectives.custom_all_reduce_latency(n, size, case.device.scale_up_bytes_per_s, constants).latency_s


def _nccl_latency(case: KernelCase, rows: Rows, constants: Any) -> FloatArray:
    n, size = _columns(rows, "num_gpus", "size_bytes")
    return collectives.nccl_latency(case.kernel, n, size, case.device.scale_up_bytes_per_s, constants).latency_s


def _ring_roofline(case: KernelCase, rows: Rows) -> FloatArray:
    n, size = _columns(rows, "num_gpus", "size_bytes")
    op = case.kernel if case.family == "nccl" else "all_reduce"
    return np.asarray(collectives.wire_factor(op, n) * size / case.device.scale_up_bytes_per_s)


_EXCHANGE = ("node_num", "hidden_size", "num_topk", "num_experts")


def _exchange_rows(case: KernelCase, table: str, latency: str, *more: str) -> Rows:
    phase, place = case.kernel.split("_")
    rows = _read(case, "comm", table)
    rows = rows[rows["node_num"] == 1] if place == "node" else rows[rows["node_num"] > 1]
    rows = rows.rename(columns={name.format(phase): name.format("") for name in more})
    rows = rows.assign(latency_s=rows[latency.format(phase)].astype(float) * 1e-6)
    columns = ["num_token", *_EXCHANGE, *(name.format("") for name in more), "latency_s"]
    return _with_site(rows[columns], *_EXCHANGE)


def _low_latency_rows(case: KernelCase) -> Rows:
    return _exchange_rows(case, "wideep_deepep_ll", "{}_avg_t_us")


def _bulk_rows(case: KernelCase) -> Rows:
    return _exchange_rows(case, "wideep_deepep_normal", "{}_transmit_us", "{}_sms")


def _exchange_link(case: KernelCase) -> float:
    in_node = case.kernel.endswith("_node")
    return case.device.scale_up_bytes_per_s if in_node else case.device.scale_out_bytes_per_s


def _low_latency_bytes(case: KernelCase, rows: Rows) -> FloatArray:
    tokens, nodes, hidden, topk = _columns(rows, "num_token", *_EXCHANGE[:3])
    leaving = 1 if case.kernel.endswith("_node") else 1 - 1 / nodes
    wire = collectives.WIRE_BYTES[f"ep_{case.kernel.split('_')[0]}"]
    return np.asarray(tokens * topk * hidden * wire * leaving)


def _bulk_bytes(case: KernelCase, rows: Rows) -> FloatArray:
    tokens, nodes, hidden, topk = _columns(rows, "num_token", *_EXCHANGE[:3])
    targets = 8.0 if case.kernel.endswith("_node") else nodes
    return collectives.bulk_wire_bytes(tokens, hidden, topk, targets)


def _low_latency_latency(case: KernelCase, rows: Rows, constants: Any) -> FloatArray:
    tokens = rows["num_token"].to_numpy(np.float64)
    return collectives.exchange_latency(
        tokens, _low_latency_bytes(case, rows), _exchange_link(case), constants
    ).latency_s


def _bulk_latency(case: KernelCase, rows: Rows, constants: Any) -> FloatArray:
    tokens, n_sm = _columns(rows, "num_token", "_sms")
    return collectives.bulk_exchange_latency(
        tokens, _bulk_bytes(case, rows), n_sm, _exchange_link(case), constants
    ).latency_s


def _low_latency_roofline(case: KernelCase, rows: Rows) -> FloatArray:
    return np.asarray(_low_latency_bytes(case, rows) / _exchange_link(case))


def _bulk_roofline(case: KernelCase, rows: Rows) -> FloatArray:
    return np.asarray(_bulk_bytes(case, rows) / _exchange_link(case))


def _same_rows(case: KernelCase, rows: Rows) -> Rows:
    return rows


_READERS: dict[str, Reader] = {
    "gemm": _gemm_rows,
    "batched_gemm": _bmm_rows,
    "mla_prefill": _mla_prefill_rows,
    "mla_decode": _mla_decode_rows,
    "attention_prefill": _attention_prefill_rows,
    "attention_decode": _attention_decode_rows,
    "moe": _moe_rows,
    "custom_all_reduce": _custom_rows,
    "nccl": _nccl_rows,
    "ep_low_latency": _low_latency_rows,
    "ep_bulk": _bulk_rows,
}
_SHAPES: dict[str, Callable[[KernelCase, Rows], Any]] = {
    "gemm": _gemm_shape,
    "batched_gemm": _bmm_shape,
    "mla_prefill": _mla_prefill_shape,
    "mla_decode": _mla_decode_shape,
    "attention_prefill": _attention_prefill_shape,
    "attention_decode": _attention_decode_shape,
    "moe": _moe_shape,
    "custom_all_reduce": _same_rows,
    "nccl": _same_rows,
    "ep_low_latency": _same_rows,
    "ep_bulk": _same_rows,
}
_LATENCIES: dict[str, Callable[[KernelCase, Any, Any], FloatArray]] = {
    "gemm": _gemm_latency,
    "batched_gemm": _gemm_latency,
    "mla_prefill": _prefill_latency,
    "mla_decode": _decode_latency,
    "attention_prefill": _prefill_latency,
    "attention_decode": _decode_latency,
    "moe": _moe_latency,
    "custom_all_reduce": _custom_latency,
    "nccl": _nccl_latency,
    "ep_low_latency": _low_latency_latency,
    "ep_bulk": _bulk_latency,
}
_ROOFLINES: dict[str, Callable[[KernelCase, Any], FloatArray]] = {
    "gemm": _gemm_roofline,
    "batched_gemm": _gemm_roofline,
    "mla_prefill": _prefill_roofline,
    "mla_decode": _decode_roofline,
    "attention_prefill": _prefill_roofline,
    "attention_decode": _decode_roofline,
    "moe": _moe_roofline,
    "custom_all_reduce": _ring_roofline,
    "nccl": _ring_roofline,
    "ep_low_latency": _low_latency_roofline,
    "ep_bulk": _bulk_roofline,
}


# --------------------------------------------------------------------------------------------- cases

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


def _gemm_cases(device: str) -> Iterator[KernelCase]:
    trtllm, blackwell = _newest(device, "trtllm"), device in _BLACKWELL
    yield KernelCase(device, "gemm", "bf16", "cublas", trtllm)
    yield KernelCase(device, "batched_gemm", "bf16", "mla_bmm", trtllm)
    if device == "a100_sxm_80gb":
        return
    form = _UMMA if blackwell else ()
    yield KernelCase(device, "gemm", "fp8", "trtllm", trtllm)
    yield KernelCase(device, "gemm", "fp8_block", "trtllm", trtllm, form=form)
    if blackwell:
        yield KernelCase(device, "gemm", "nvfp4", "trtllm", trtllm, form=form)
    for framework in ("vllm", "sglang"):
        for dtype in ("fp8", "nvfp4") if blackwell else ("fp8",):
            yield KernelCase(device, "gemm", dtype, framework, _newest(device, framework), form=form)


def _attention_cases(device: str) -> Iterator[KernelCase]:
    trtllm, vllm = _newest(device, "trtllm"), _newest(device, "vllm")
    yield KernelCase(device, "mla_prefill", "bf16", "trtllm", trtllm)
    for kv_dtype in ("bf16", "fp8"):
        yield KernelCase(device, "mla_decode", kv_dtype, "trtllm", trtllm)
    for name, table in (("vllm", vllm), ("trtllm", trtllm)):
        yield KernelCase(device, "attention_prefill", "bf16", name, table)
        for kind in ("gqa", "mha"):
            yield KernelCase(device, "attention_decode", "bf16", f"{name}_{kind}", table)


_MOE_KERNELS = {
    "cutlass": ("trtllm", "moe_torch_flow_cutlass"),
    "deepgemm": ("trtllm", "deepgemm"),
    "min_latency": ("trtllm", "moe_torch_flow_min_latency"),
    "triton": ("sglang", "sglang_fused_moe_triton"),
    "flashinfer": ("sglang", "sglang_flashinfer_trtllm_moe"),
}


def _moe_cases(device: str) -> Iterator[KernelCase]:
    if device == "a100_sxm_80gb":
        found = [("bf16", "triton")]
    elif device in _BLACKWELL:
        found = [("fp8_block", "deepgemm"), ("fp8_block", "flashinfer"), ("bf16", "cutlass"), ("bf16", "flashinfer")]
        found += [("nvfp4", "cutlass"), ("nvfp4", "flashinfer"), ("nvfp4", "min_latency")]
    else:
        found = [(dtype, kernel) for dtype in ("fp8_block", "bf16") for kernel in ("cutlass", "triton")]
    for dtype, kernel in found:
        framework, source = _MOE_KERNELS[kernel]
        yield KernelCase(device, "moe", dtype, kernel, _newest(device, framework), source)


def _collective_cases(device: str) -> Iterator[KernelCase]:
    for name, source in (("vllm", "vLLM_custom_graph"), ("trtllm", "TRTLLM")):
        yield KernelCase(device, "custom_all_reduce", "any", name, _newest(device, name), source)
    for op in collectives.RING_OPS:
        yield KernelCase(device, "nccl", "any", op, (("nccl", _NCCL_RELEASE[device]),))
    if device == "a100_sxm_80gb":
        return
    places = ("node", "cluster") if device in ("h100_sxm", "h200_sxm") else ("node",)
    for phase in ("dispatch", "combine"):
        for place in places:
            release = "0.5.12" if place == "node" else "0.5.6.post2"
            for family in ("ep_low_latency", "ep_bulk"):
                yield KernelCase(device, family, "any", f"{phase}_{place}", (("sglang", release),))


def all_cases() -> tuple[KernelCase, ...]:
    """Every kernel that is calibrated, device by device."""
    makers = (_gemm_cases, _attention_cases, _moe_cases, _collective_cases)
    return tuple(case for device in DEVICES for maker in makers for case in maker(device))
