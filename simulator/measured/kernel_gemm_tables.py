"""The GEMM tables, and those of MLA's batched projections over heads."""

import numpy as np
import pandas as pd

from simulator.costs import gemm
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import element_bytes, product_types
from simulator.measured.kernel_case import KernelCase, KernelTable, Rows, columns_of, read_releases, with_site
from simulator.measured.silicon import read_table


def _gemm_rows(case: KernelCase) -> Rows:
    rows = pd.concat(
        read_table(case.device_key, "gemm", "gemm", *pair).assign(trtllm=pair[0] == "trtllm")
        for pair in case.releases
    )
    rows = rows[(rows["gemm_dtype"] == case.dtype) & (rows["n"] >= 128) & (rows["k"] >= 128)]
    if case.kernel_source:
        rows = rows[rows["kernel_source"] == case.kernel_source]
    return with_site(rows[["m", "n", "k", "trtllm", "latency_s"]], "n", "k")


def _gemm_shape(case: KernelCase, rows: Rows) -> gemm.GemmShape:
    m, n, k = columns_of(rows, "m", "n", "k")
    stored, multiplied = product_types(case.dtype)
    size = element_bytes(stored)
    trtllm = rows["trtllm"].to_numpy(bool)
    copies = gemm.timed_copies(n, k, size, case.device.l2_bytes, fills_cache=trtllm)
    return gemm.GemmShape(
        *(m, n, k, element_bytes(multiplied)),
        weight_copies=copies,
        quantizes_input=case.dtype not in gemm.UNQUANTISED,
        stored_bytes=size,
    )


def _bmm_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "mla_bmm", "mla_bmm")
    rows = rows[rows["bmm_dtype"] == case.dtype]
    if case.kernel_source:
        rows = rows[rows["kernel_source"].isin(case.kernel_source.split(" "))]
    into_latent = rows["op_name"] == "mla_gen_pre"
    rows = rows.assign(n=np.where(into_latent, 512, 128), k=np.where(into_latent, 128, 512))
    return with_site(rows[["num_tokens", "num_heads", "n", "k", "latency_s"]], "num_heads")


def _bmm_shape(case: KernelCase, rows: Rows) -> gemm.GemmShape:
    m, n, k, batch = columns_of(rows, "num_tokens", "n", "k", "num_heads")
    return gemm.GemmShape(m, n, k, element_bytes(case.dtype), batch)


def _peak(case: KernelCase) -> float:
    return case.device.peak_or_bf16(product_types(case.dtype)[1])


def _gemm_latency(case: KernelCase, shape: gemm.GemmShape, constants: gemm.GemmConstants) -> FloatArray:
    return gemm.gemm_latency(shape, _peak(case), case.device, constants, cold=False).latency_s


def _gemm_roofline(case: KernelCase, shape: gemm.GemmShape) -> FloatArray:
    return gemm.roofline_s(shape, _peak(case), case.device)


TABLES = {
    "gemm": KernelTable(_gemm_rows, _gemm_shape, _gemm_latency, _gemm_roofline),
    "batched_gemm": KernelTable(_bmm_rows, _bmm_shape, _gemm_latency, _gemm_roofline),
}
