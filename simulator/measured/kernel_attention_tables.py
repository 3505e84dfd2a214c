"""The attention tables: MLA, multi-head and grouped-query, prefill and decode."""

from typing import Any

import numpy as np
import pandas as pd

from simulator.costs import decode, prefill
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import element_bytes
from simulator.costs.kernel_choice import decode_compute_dtype
from simulator.measured.kernel_case import KernelCase, KernelTable, Rows, columns_of, read_releases, with_site


def _mla_prefill_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "mla", "context_mla")
    rows = rows[(rows["mla_dtype"] == "bf16") & (rows["kv_cache_dtype"] == case.dtype)]
    return with_site(rows[["batch_size", "isl", "num_heads", "latency_s"]], "num_heads")


def _mla_prefill_shape(case: KernelCase, rows: Rows) -> prefill.PrefillShape:
    return prefill.mla_prefill_shape(*columns_of(rows, "batch_size", "isl", "num_heads"), appends=True)


def _mla_decode_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "mla", "generation_mla")
    rows = rows[rows["kv_cache_dtype"] == case.dtype]
    rows = rows.assign(context=rows["step"] + rows["isl"])
    return with_site(rows[["batch_size", "context", "num_heads", "latency_s"]], "num_heads")


def _mla_decode_shape(case: KernelCase, rows: Rows) -> decode.DecodeShape:
    batch, context, heads = columns_of(rows, "batch_size", "context", "num_heads")
    return decode.mla_decode_shape(batch, context, heads, element_bytes(case.dtype))


#: kernels that run few shapes, all of which are one case: any head, group and window
_EVERY_SHAPE = ("_triton", "_flashinfer", "_fa4")
#: queries that stay in 16 bits over a cache in 8
WIDE_QUERIES = "_bf16_queries"
_ATTENTION = ("num_heads", "num_key_value_heads", "head_dim", "window_size")


def _attention_rows(case: KernelCase, table: str) -> Rows:
    """Rows of the usual head sizes; groups above 16 leave the packed kernels."""
    rows = read_releases(case, "attention", table)
    if case.kernel_source:
        rows = rows[rows["kernel_source"] == case.kernel_source]
    if "window_size" not in rows:
        rows = rows.assign(window_size=0)
    kv_heads = np.where(rows["num_key_value_heads"] > 0, rows["num_key_value_heads"], rows["num_heads"])
    rows = rows.assign(num_key_value_heads=kv_heads, window_size=rows["window_size"].fillna(0))
    rows = rows[(rows["kv_cache_dtype"] == case.dtype) & (rows["attn_dtype"] == _query_dtype(case, rows))]
    if not case.kernel.endswith(_EVERY_SHAPE):
        rows = rows[_over_window(case, rows) & rows["head_dim"].isin([64, 128])]
        rows = rows[rows["num_heads"] / rows["num_key_value_heads"] <= 16]
    return with_site(rows, *_ATTENTION)


def _over_window(case: KernelCase, rows: Rows) -> "pd.Series[bool]":
    if not case.kernel.endswith("_window"):
        return rows["window_size"] == 0
    return rows["window_size"].between(1, decode.SHORT_WINDOW)


def _query_dtype(case: KernelCase, rows: Rows) -> str:
    """What a table calls queries over the cache of a case: some call those that a kernel quantises bf16."""
    if case.kernel.endswith(WIDE_QUERIES):
        return "bf16"
    over_cache = rows.loc[rows["kv_cache_dtype"] == case.dtype, "attn_dtype"]
    return case.dtype if (over_cache == case.dtype).any() else "bf16"


def _attention_prefill_rows(case: KernelCase) -> Rows:
    rows = _attention_rows(case, "context_attention")
    return rows[["batch_size", "isl", *_ATTENTION, "site", "latency_s"]]


def _attention_prefill_shape(case: KernelCase, rows: Rows) -> prefill.PrefillShape:
    b, s, h, kv, d, w = columns_of(rows, "batch_size", "isl", *_ATTENTION)
    return prefill.PrefillShape(b, s, h, kv, d, d, w, element_bytes(case.dtype))


def _attention_decode_rows(case: KernelCase) -> Rows:
    rows = _attention_rows(case, "generation_attention")
    grouped = rows["num_heads"] > rows["num_key_value_heads"]
    if not case.kernel.endswith(_EVERY_SHAPE):
        rows = rows[grouped == ("_gqa" in case.kernel)]
    rows = rows.assign(context=rows["step"] + 1)
    return rows[["batch_size", "context", *_ATTENTION, "site", "latency_s"]]


def _attention_decode_shape(case: KernelCase, rows: Rows) -> decode.DecodeShape:
    b, s, h, kv, d, w = columns_of(rows, "batch_size", "context", *_ATTENTION)
    seen = decode.windowed_context(s, w)
    return decode.DecodeShape(b, seen, h, kv, d, d, 2 * d * element_bytes(case.dtype))


def _prefill_peak(case: KernelCase) -> float:
    """Naive MLA multiplies in 16 bits whatever it appends to the cache."""
    wide = case.family == "mla_prefill" or case.kernel.endswith(WIDE_QUERIES)
    return case.device.peak_or_bf16("bf16" if wide else case.dtype)


def _prefill_latency(case: KernelCase, shape: Any, constants: Any) -> FloatArray:
    return prefill.prefill_latency(shape, _prefill_peak(case), case.device, constants).latency_s


def _prefill_roofline(case: KernelCase, shape: Any) -> FloatArray:
    return prefill.roofline_s(shape, _prefill_peak(case), case.device)


def _decode_peak(case: KernelCase) -> float:
    return case.device.peak_or_bf16(decode_compute_dtype(case.dtype, case.device.architecture))


def _decode_latency(case: KernelCase, shape: Any, constants: Any) -> FloatArray:
    return decode.decode_latency(shape, _decode_peak(case), case.device, constants, cold=False).latency_s


def _decode_roofline(case: KernelCase, shape: Any) -> FloatArray:
    return decode.roofline_s(shape, _decode_peak(case), case.device)


def _encoder_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "encoder_attention", "encoder_attention")
    return with_site(
        rows[["batch_size", "isl", "num_heads", "head_dim", "latency_s"]], "num_heads", "head_dim"
    )


def _encoder_shape(case: KernelCase, rows: Rows) -> prefill.PrefillShape:
    return prefill.encoder_shape(*columns_of(rows, "batch_size", "isl", "num_heads", "head_dim"))


TABLES = {
    "encoder_attention": KernelTable(_encoder_rows, _encoder_shape, _prefill_latency, _prefill_roofline),
    "mla_prefill": KernelTable(_mla_prefill_rows, _mla_prefill_shape, _prefill_latency, _prefill_roofline),
    "mla_decode": KernelTable(_mla_decode_rows, _mla_decode_shape, _decode_latency, _decode_roofline),
    "attention_prefill": KernelTable(
        _attention_prefill_rows, _attention_prefill_shape, _prefill_latency, _prefill_roofline
    ),
    "attention_decode": KernelTable(
        _attention_decode_rows, _attention_decode_shape, _decode_latency, _decode_roofline
    ),
}
