"""The tables of collectives: custom all-reduce, NCCL, and the expert exchanges of DeepEP."""

from typing import Any

import numpy as np

from simulator.costs import collectives
from simulator.costs.estimates import FloatArray
from simulator.measured.kernel_case import KernelCase, KernelTable, Rows, columns_of, read_releases, with_site
from simulator.measured.kernel_exchange_tables import (
    engine_rows,
    is_exchange_of_engine,
    nvlink_latency,
    nvlink_roofline,
    nvlink_rows,
    wire_element_bytes,
)

_NCCL_NAME = {"all_to_all": "alltoall"}
_HALF_BYTES = 2


def _custom_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "comm", "custom_allreduce")
    ranks = collectives.op_and_group(case.kernel)[1]
    return _ring_rows(rows[rows["kernel_source"] == case.kernel_source], ranks)


def _nccl_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "comm", "nccl")
    op, ranks = collectives.op_and_group(case.kernel)
    name = _NCCL_NAME.get(op, op)
    return _ring_rows(
        rows[(rows["op_name"] == name) & (rows["nccl_dtype"] == "half") & (rows["num_gpus"] <= 8)], ranks
    )


def _oneccl_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "comm", "oneccl")
    op, ranks = collectives.op_and_group(case.kernel)
    return _ring_rows(rows[(rows["op_name"] == op) & (rows["nccl_dtype"] == "half")], ranks)


def _ring_rows(rows: Rows, ranks: int) -> Rows:
    """Rows of all group sizes, each a site; or of one, where the sizes of messages are sites."""
    rows = rows.assign(size_bytes=rows["message_size"].astype(float) * _HALF_BYTES)
    if ranks:
        rows = rows[rows["num_gpus"] == ranks]
        return with_site(rows[["num_gpus", "size_bytes", "latency_s"]], "num_gpus", "size_bytes")
    return with_site(rows[["num_gpus", "size_bytes", "latency_s"]], "num_gpus")


def _custom_latency(case: KernelCase, rows: Rows, constants: Any) -> FloatArray:
    n, size = columns_of(rows, "num_gpus", "size_bytes")
    return collectives.custom_all_reduce_latency(
        n, size, case.device.scale_up_bytes_per_s, constants
    ).latency_s


def _nccl_latency(case: KernelCase, rows: Rows, constants: Any) -> FloatArray:
    n, size = columns_of(rows, "num_gpus", "size_bytes")
    return collectives.nccl_latency(
        collectives.op_and_group(case.kernel)[0], n, size, case.device.scale_up_bytes_per_s, constants
    ).latency_s


def _ring_roofline(case: KernelCase, rows: Rows) -> FloatArray:
    n, size = columns_of(rows, "num_gpus", "size_bytes")
    op = collectives.op_and_group(case.kernel)[0] if case.family != "custom_all_reduce" else "all_reduce"
    return np.asarray(collectives.wire_factor(op, n) * size / case.device.scale_up_bytes_per_s)


_EXCHANGE = ("node_num", "hidden_size", "num_topk", "num_experts")


def _exchange_rows(case: KernelCase, table: str, latency: str, *more: str) -> Rows:
    if is_exchange_of_engine(case):
        return engine_rows(case)
    phase, place = case.kernel.split("_")
    rows = read_releases(case, "comm", table)
    rows = rows[rows["node_num"] == 1] if place == "node" else rows[rows["node_num"] > 1]
    rows = rows.rename(columns={name.format(phase): name.format("") for name in more})
    rows = rows.assign(latency_s=rows[latency.format(phase)].astype(float) * 1e-6)
    columns = ["num_token", *_EXCHANGE, *(name.format("") for name in more), "latency_s"]
    return with_site(rows[columns], *_EXCHANGE)


def _low_latency_rows(case: KernelCase) -> Rows:
    return _exchange_rows(case, "wideep_deepep_ll", "{}_avg_t_us")


def _bulk_rows(case: KernelCase) -> Rows:
    return _exchange_rows(case, "wideep_deepep_normal", "{}_transmit_us", "{}_sms")


def _exchange_link(case: KernelCase) -> float:
    in_node = case.kernel.endswith("_node")
    return case.device.scale_up_bytes_per_s if in_node else case.device.scale_out_bytes_per_s


def _low_latency_bytes(case: KernelCase, rows: Rows) -> FloatArray:
    tokens, nodes, hidden, topk = columns_of(rows, "num_token", *_EXCHANGE[:3])
    leaving = 1 if case.kernel.endswith("_node") else 1 - 1 / nodes
    wire = wire_element_bytes(case)
    return np.asarray(tokens * topk * hidden * wire * leaving)


def _bulk_bytes(case: KernelCase, rows: Rows) -> FloatArray:
    tokens, nodes, hidden, topk = columns_of(rows, "num_token", *_EXCHANGE[:3])
    targets = 8.0 if case.kernel.endswith("_node") else nodes
    size = wire_element_bytes(case) if is_exchange_of_engine(case) else 2.0
    return collectives.bulk_wire_bytes(tokens, hidden * size / 2, topk, targets)


def _low_latency_latency(case: KernelCase, rows: Rows, constants: Any) -> FloatArray:
    tokens = rows["num_token"].to_numpy(np.float64)
    return collectives.exchange_latency(
        tokens, _low_latency_bytes(case, rows), _exchange_link(case), constants
    ).latency_s


def _bulk_latency(case: KernelCase, rows: Rows, constants: Any) -> FloatArray:
    tokens, n_sm = columns_of(rows, "num_token", "_sms")
    return collectives.bulk_exchange_latency(
        tokens, _bulk_bytes(case, rows), n_sm, _exchange_link(case), constants
    ).latency_s


def _low_latency_roofline(case: KernelCase, rows: Rows) -> FloatArray:
    return np.asarray(_low_latency_bytes(case, rows) / _exchange_link(case))


def _bulk_roofline(case: KernelCase, rows: Rows) -> FloatArray:
    return np.asarray(_bulk_bytes(case, rows) / _exchange_link(case))


def _same_rows(case: KernelCase, rows: Rows) -> Rows:
    return rows


TABLES = {
    "custom_all_reduce": KernelTable(_custom_rows, _same_rows, _custom_latency, _ring_roofline),
    "oneccl": KernelTable(_oneccl_rows, _same_rows, _nccl_latency, _ring_roofline),
    "nccl": KernelTable(_nccl_rows, _same_rows, _nccl_latency, _ring_roofline),
    "ep_low_latency": KernelTable(_low_latency_rows, _same_rows, _low_latency_latency, _low_latency_roofline),
    "ep_bulk": KernelTable(_bulk_rows, _same_rows, _bulk_latency, _bulk_roofline),
    "ep_nvlink": KernelTable(nvlink_rows, _same_rows, nvlink_latency, nvlink_roofline),
}
