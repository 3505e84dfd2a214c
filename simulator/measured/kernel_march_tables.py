"""The tables of scans, convolutions, indexers, sparse attention and quantisation, priced by `marching`."""

from collections.abc import Callable

from simulator.costs import march_shapes
from simulator.costs.estimates import FloatArray
from simulator.costs.marching import MarchConstants, MarchShape, march_latency, roofline_s
from simulator.measured.kernel_case import KernelCase, KernelTable, Rows, columns_of, read_releases, with_site

#: what the indexers of the tables have: GLM-5 (index_n_heads) and DeepSeek V4, both 128 wide
_INDEX_HEADS = {"glm5_mqa_logits_module": 32.0, "dsv4_paged_mqa_logits_module": 64.0}
_INDEX_WIDTH = 128.0
_TOPK = 2048.0
_SCAN = ("batch_size", "seq_len", "num_k_heads", "num_v_heads", "head_k_dim", "head_v_dim")


def _of_source(case: KernelCase, folder: str, table: str) -> Rows:
    rows = read_releases(case, folder, table)
    return rows[rows["kernel_source"] == case.kernel_source]


def _scan_rows(case: KernelCase) -> Rows:
    folder, table = ("kda", "kda") if "_kda_" in case.kernel else ("linear_attention", "gdn")
    rows = _of_source(case, folder, table)
    return with_site(rows[[*_SCAN, "latency_s"]], "num_k_heads", "num_v_heads")


def _scan_shape(case: KernelCase, rows: Rows) -> MarchShape:
    return march_shapes.delta_rule_shape(*columns_of(rows, *_SCAN))


def _conv_rows(case: KernelCase) -> Rows:
    if "_mamba2_" in case.kernel:
        rows = _of_source(case, "linear_attention", "mamba2")
        channels = rows["nheads"] * rows["head_dim"] + 2 * rows["n_groups"] * rows["d_state"]
    else:
        folder, table = ("kda", "kda") if "_kda_" in case.kernel else ("linear_attention", "gdn")
        rows = _of_source(case, folder, table)
        keys, values = (rows[f"num_{x}_heads"] * rows[f"head_{x}_dim"] for x in "kv")
        channels = 2 * keys + values
    rows = rows.assign(channels=channels)
    return with_site(rows[["batch_size", "seq_len", "channels", "d_conv", "latency_s"]], "channels")


def _conv_shape(case: KernelCase, rows: Rows) -> MarchShape:
    return march_shapes.conv_shape(*columns_of(rows, "batch_size", "seq_len", "channels", "d_conv"))


_QUERIES = ("batch_size", "isl", "step")


def _index_rows(case: KernelCase) -> Rows:
    table = "dsv4_paged_mqa_logits_module" if "paged" in case.kernel else "glm5_mqa_logits_module"
    rows = _of_source(case, "sparse_attention", table)
    rows = rows.assign(heads=_INDEX_HEADS[table])
    return with_site(rows[[*_QUERIES, "heads", "compress_ratio", "latency_s"]], "batch_size")


def _index_shape(case: KernelCase, rows: Rows) -> MarchShape:
    batch, new, past, heads, ratio = columns_of(rows, *_QUERIES, "heads", "compress_ratio")
    return march_shapes.index_score_shape(batch, new, past, heads, _INDEX_WIDTH + 0 * heads, ratio)


def _choice_rows(case: KernelCase) -> Rows:
    rows = _of_source(case, "sparse_attention", "glm5_topk_module")
    rows = rows[rows["score_mode"] == case.kernel]
    return with_site(rows[[*_QUERIES, "latency_s"]], "batch_size")


def _choice_shape(case: KernelCase, rows: Rows) -> MarchShape:
    batch, new, past = columns_of(rows, *_QUERIES)
    return march_shapes.index_choice_shape(batch, new, past, _TOPK + 0 * batch)


def _sparse_rows(case: KernelCase) -> Rows:
    rows = _of_source(case, "sparse_attention", "glm5_dsa_attn_module")
    return with_site(rows[[*_QUERIES, "num_heads", "latency_s"]], "batch_size")


def _sparse_shape(case: KernelCase, rows: Rows) -> MarchShape:
    batch, new, past, heads = columns_of(rows, *_QUERIES, "num_heads")
    return march_shapes.sparse_attention_shape(
        batch, new, past, heads, _TOPK + 0 * batch, march_shapes.LATENT_DIMS[0] * 2
    )


def _quantize_rows(case: KernelCase) -> Rows:
    table = "computescale" if case.kernel.endswith("_scale") else "scale_matrix"
    rows = _of_source(case, "quantize", table)
    return with_site(rows[["m", "k", "latency_s"]], "k")


def _quantize_shape(case: KernelCase, rows: Rows) -> MarchShape:
    return march_shapes.quantize_shape(*columns_of(rows, "m", "k"), writes=not case.kernel.endswith("_scale"))


def _peak(case: KernelCase) -> float:
    fp8 = case.family == "index_scores" and case.device.has_peak("fp8")
    return case.device.peak("fp8" if fp8 else "bf16")


def _latency(case: KernelCase, shape: MarchShape, constants: MarchConstants) -> FloatArray:
    return march_latency(shape, _peak(case), case.device, constants, cold=False).latency_s


def _roofline(case: KernelCase, shape: MarchShape) -> FloatArray:
    return roofline_s(shape, _peak(case), case.device)


def _table(
    rows: Callable[[KernelCase], Rows], shape: Callable[[KernelCase, Rows], MarchShape]
) -> KernelTable:
    return KernelTable(rows, shape, _latency, _roofline)


TABLES = {
    "delta_rule": _table(_scan_rows, _scan_shape),
    "causal_conv": _table(_conv_rows, _conv_shape),
    "index_scores": _table(_index_rows, _index_shape),
    "index_choice": _table(_choice_rows, _choice_shape),
    "sparse_attention": _table(_sparse_rows, _sparse_shape),
    "quantize": _table(_quantize_rows, _quantize_shape),
}
