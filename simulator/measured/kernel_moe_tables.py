"""The tables of routed experts."""

import numpy as np

from simulator.costs import moe
from simulator.costs.estimates import FloatArray
from simulator.costs.expert_load import ExpertLoad, expert_load
from simulator.costs.figures import MIXED_PRODUCTS, element_bytes, product_types
from simulator.measured.kernel_case import KernelCase, KernelTable, Rows, columns_of, read_releases, with_site

_ROUTING = ("num_experts", "topk", "moe_ep_size", "distribution")
_MOE = ("hidden_size", "inter_size", "topk", "num_experts")
#: models in mxfp4 fit a few devices: their one or two sites are fitted on the layouts of a node
_NODE_RANKS = 8


#: kernels whose experts are spread over many ranks have tables of their own
_WIDE_TABLES = {
    "deepep": "wideep_context_moe",
    "deepep_decode": "wideep_generation_moe",
    "wideep": "wideep_moe",
}


def _routing(distribution: str) -> str:
    """The routing as `expert_load` knows it; replicas of experts (EPLB) keep ranks even."""
    return "balanced" if distribution == "uniform" or distribution.endswith("_eplb") else distribution


def _moe_rows(case: KernelCase) -> Rows:
    rows = read_releases(case, "moe", _WIDE_TABLES.get(case.kernel, "moe"))
    if "num_slots" in rows:
        rows = rows.assign(num_experts=rows["num_slots"])
    rows = rows.assign(distribution=rows["distribution"].map(_routing))
    rows = rows[(rows["moe_dtype"] == case.dtype) & (rows["kernel_source"] == case.kernel_source)]
    if case.dtype in MIXED_PRODUCTS:
        rows = rows[rows["moe_tp_size"] * rows["moe_ep_size"] <= _NODE_RANKS]
    columns = ["num_tokens", *_MOE, "moe_tp_size", "moe_ep_size", "distribution", "latency_s"]
    return with_site(rows[columns], *_MOE)


def _moe_shape(case: KernelCase, rows: Rows) -> moe.MoeShape:
    tokens, hidden, inter, topk, experts = columns_of(rows, "num_tokens", *_MOE)
    tp, ep = columns_of(rows, "moe_tp_size", "moe_ep_size")
    stored, multiplied = product_types(case.dtype)
    sizes = element_bytes(stored), element_bytes(multiplied)
    products_in = 1 if case.kernel == "nongated" else 2
    return moe.MoeShape(
        _loads(rows), *sizes, tokens, hidden, inter / tp, topk, experts / ep, products_in=products_in
    )


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


def _peak(case: KernelCase) -> float:
    return case.device.peak_or_bf16(product_types(case.dtype)[1])


def _moe_latency(case: KernelCase, shape: moe.MoeShape, constants: moe.MoeConstants) -> FloatArray:
    return moe.moe_latency(shape, _peak(case), case.device, constants).latency_s


def _moe_roofline(case: KernelCase, shape: moe.MoeShape) -> FloatArray:
    return moe.roofline_s(shape, _peak(case), case.device)


TABLES = {"moe": KernelTable(_moe_rows, _moe_shape, _moe_latency, _moe_roofline)}
