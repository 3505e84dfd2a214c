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
    nvlink_shape,
    wire_element_bytes,
)

_NCCL_NAME = {"all_to_all": "alltoall"}
_HALF_BYTES = 2
#: devices of one tray: beyond it engines all-reduce over the same NVLink by another kernel, ten times slower
#: to start, but for those made for it (multi-node NVLink)
TRAY_DEVICES = {"gb300": 4}


def _custom_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "comm", "custom_allreduce")
    ranks = collectives.op_and_group(case.kernel)[1]
    own = rows[rows["kernel_source"] == case.kernel_source]
    if not ranks and case.device_key in TRAY_DEVICES and "mnnvl" not in case.kernel:
        own = own[own["num_gpus"] <= TRAY_DEVICES[case.device_key]]
    return _ring_rows(own, ranks)


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


def _ring_shape(case: KernelCase, rows: Rows) -> collectives.RingShape:
    return collectives.RingShape(*columns_of(rows, "num_gpus", "size_bytes"))


def _custom_latency(case: KernelCase, shape: collectives.RingShape, constants: Any) -> FloatArray:
    link = case.device.scale_up_bytes_per_s
    return collectives.custom_all_reduce_latency(shape.n_ranks, shape.size_bytes, link, constants).latency_s


def _nccl_latency(case: KernelCase, shape: collectives.RingShape, constants: Any) -> FloatArray:
    op, link = collectives.op_and_group(case.kernel)[0], case.device.scale_up_bytes_per_s
    return collectives.nccl_latency(op, shape.n_ranks, shape.size_bytes, link, constants).latency_s


def _ring_roofline(case: KernelCase, shape: collectives.RingShape) -> FloatArray:
    op = collectives.op_and_group(case.kernel)[0] if case.family != "custom_all_reduce" else "all_reduce"
    wire = collectives.wire_factor(op, shape.n_ranks) * shape.size_bytes
    return np.asarray(wire / case.device.scale_up_bytes_per_s)


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


def _low_latency_shape(case: KernelCase, rows: Rows) -> collectives.ExchangeShape:
    tokens = rows["num_token"].to_numpy(np.float64)
    return collectives.ExchangeShape(tokens, _low_latency_bytes(case, rows))


def _low_latency_latency(case: KernelCase, shape: collectives.ExchangeShape, constants: Any) -> FloatArray:
    link = _exchange_link(case)
    return collectives.exchange_latency(shape.tokens, shape.wire_bytes, link, constants).latency_s


def _bulk_shape(case: KernelCase, rows: Rows) -> collectives.ExchangeShape:
    tokens, n_sm = columns_of(rows, "num_token", "_sms")
    return collectives.ExchangeShape(tokens, _bulk_bytes(case, rows), n_sm)


def _bulk_latency(case: KernelCase, shape: collectives.ExchangeShape, constants: Any) -> FloatArray:
    sent = (shape.tokens, shape.wire_bytes, shape.n_sm)
    return collectives.bulk_exchange_latency(*sent, _exchange_link(case), constants).latency_s


def _exchange_roofline(case: KernelCase, shape: collectives.ExchangeShape) -> FloatArray:
    return np.asarray(shape.wire_bytes / _exchange_link(case))


TABLES = {
    "custom_all_reduce": KernelTable(_custom_rows, _ring_shape, _custom_latency, _ring_roofline),
    "oneccl": KernelTable(_oneccl_rows, _ring_shape, _nccl_latency, _ring_roofline),
    "nccl": KernelTable(_nccl_rows, _ring_shape, _nccl_latency, _ring_roofline),
    "ep_low_latency": KernelTable(
        _low_latency_rows, _low_latency_shape, _low_latency_latency, _exchange_roofline
    ),
    "ep_bulk": KernelTable(_bulk_rows, _bulk_shape, _bulk_latency, _exchange_roofline),
    "ep_nvlink": KernelTable(nvlink_rows, nvlink_shape, nvlink_latency, nvlink_roofline),
}
