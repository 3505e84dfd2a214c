"""The tables of routed experts."""

import numpy as np

from simulator.costs import moe
from simulator.costs.estimates import FloatArray
from simulator.costs.expert_load import ExpertLoad, expert_load
from simulator.costs.figures import element_bytes
from simulator.measured.kernel_case import KernelCase, KernelTable, Rows, columns_of, read_releases, with_site

_ROUTING = ("num_experts", "topk", "moe_ep_size", "distribution")
_MOE = ("hidden_size", "inter_size", "topk", "num_experts")


def _moe_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "moe", "moe")
    rows = rows[(rows["moe_dtype"] == case.dtype) & (rows["kernel_source"] == case.kernel_source)]
    columns = ["num_tokens", *_MOE, "moe_tp_size", "moe_ep_size", "distribution", "latency_s"]
    return with_site(rows[columns], *_MOE)


def _moe_shape(case: KernelCase, rows: Rows) -> moe.MoeShape:
    tokens, hidden, inter, topk, experts = columns_of(rows, "num_tokens", *_MOE)
    tp, ep = columns_of(rows, "moe_tp_size", "moe_ep_size")
    size = element_bytes(case.dtype)
    return moe.MoeShape(_loads(rows), size, tokens, hidden, inter / tp, topk, experts / ep)


def _loads(rows: Rows) -> ExpertLoad:
    """Load of the busiest rank of each row, computed once for each routing."""
    stats = np.empty((len(rows), 5))
    tokens = rows["num_tokens"].to_numpy(np.float64)
    for _, group in rows[list(_ROUTING)].reset_index(drop=True).groupby(list(_ROUTING)):
        index = group.index.to_numpy()
        experts, topk, ep, distribution = group.iloc[0]
        load = expert_load(tokens[index], int(experts), int(topk), int(ep), str(distribution))
        stats[index] = np.column_stack([load.rows, load.active, load.tiles])
    return ExpertLoad(stats[:, 0], stats[:, 1], stats[:, 2:])


def _moe_latency(case: KernelCase, shape: moe.MoeShape, constants: moe.MoeConstants) -> FloatArray:
    return moe.moe_latency(shape, case.device.peak(case.dtype), case.device, constants).latency_s


def _moe_roofline(case: KernelCase, shape: moe.MoeShape) -> FloatArray:
    return moe.roofline_s(shape, case.device.peak(case.dtype), case.device)


TABLES = {"moe": KernelTable(_moe_rows, _moe_shape, _moe_latency, _moe_roofline)}
