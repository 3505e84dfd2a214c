"""The tables of expert exchanges beside SGLang's: DeepEP under TensorRT-LLM and vLLM, and NVLink kernels."""

import numpy as np

from simulator.costs import collectives
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import element_bytes
from simulator.measured.kernel_case import KernelCase, Rows, columns_of, read_releases, with_site

#: backends of the exchange tables: low latency and high throughput
_BACKENDS = {"ep_low_latency": "_ll", "ep_bulk": "_ht"}
_EXCHANGE = ("ep_size", "hidden_size", "topk", "num_experts")
#: SMs that TensorRT-LLM gives DeepEP's normal kernels; its table does not say
_SMS = 20.0


def is_exchange_of_engine(case: KernelCase) -> bool:
    """Whether the rows are in an engine's own table: its name comes first."""
    return case.kernel.startswith(("trtllm_", "vllm_"))


def engine_rows(case: KernelCase) -> Rows:
    """Dispatch or combine of one number type and kind of kernel, times in microseconds."""
    _, phase, _ = case.kernel.split("_")
    rows = read_releases(case, "comm", "moe_a2a")
    kind = rows["comm_backend"].str.endswith(_BACKENDS[case.family])
    rows = rows[kind & (rows["phase"] == phase) & (rows["comm_dtype"] == case.dtype)]
    rows = rows.assign(
        num_token=rows["num_tokens"],
        node_num=1,
        num_topk=rows["topk"],
        _sms=np.where(rows["sms"] > 0, rows["sms"], _SMS),
        latency_s=rows["latency"].astype(float) * 1e-6,
    )
    columns = ["num_token", "node_num", "hidden_size", "num_topk", "num_experts", "_sms", "latency_s"]
    return with_site(rows[columns], "hidden_size", "num_topk", "num_experts")


def wire_element_bytes(case: KernelCase) -> float:
    """Bytes of an element on the wire; vLLM's table leaves it open: fp8 out, 16 bits back."""
    if case.dtype in ("default", "any"):
        phase = "dispatch" if "dispatch" in case.kernel else "combine"
        return collectives.WIRE_BYTES[f"ep_{phase}"]
    return element_bytes(case.dtype)


def nvlink_rows(case: KernelCase) -> Rows:
    """TensorRT-LLM's all-to-all kernels over NVLink: one source, phase and number type."""
    sided, phase = case.kernel.split("_", 2)[0], case.kernel.split("_", 2)[2]
    rows = read_releases(case, "comm", "trtllm_alltoall")
    source = {"one": "NVLinkOneSided", "two": "NVLinkTwoSided"}[sided]
    rows = rows[(rows["kernel_source"] == source) & (rows["op_name"] == f"alltoall_{phase}")]
    rows = rows[rows["moe_dtype"] == case.dtype]
    rows = rows.assign(ep_size=rows["moe_ep_size"])
    return with_site(rows[["num_tokens", *_EXCHANGE, "latency_s"]], "ep_size")


def nvlink_shape(case: KernelCase, rows: Rows) -> collectives.ExchangeShape:
    """A token goes once to each rank that has one of its experts."""
    tokens = rows["num_tokens"].to_numpy(np.float64)
    return collectives.ExchangeShape(tokens, nvlink_wire_bytes(case, rows))


def nvlink_latency(
    case: KernelCase, shape: collectives.ExchangeShape, constants: collectives.ExchangeConstants
) -> FloatArray:
    """Latency of the exchanges in seconds."""
    link = case.device.scale_up_bytes_per_s
    return collectives.exchange_latency(shape.tokens, shape.wire_bytes, link, constants).latency_s


def nvlink_wire_bytes(case: KernelCase, rows: Rows) -> FloatArray:
    """Bytes that leave a rank; `prepare` sends counts only, which are one element a token."""
    tokens, ranks, hidden, topk = columns_of(rows, "num_tokens", *_EXCHANGE[:3])
    size = element_bytes(case.dtype) if case.kernel.endswith("dispatch") else 2.0
    if case.kernel.endswith("low_precision"):
        size = 1.0
    width = 1.0 if case.kernel.endswith("prepare") else hidden
    return collectives.bulk_wire_bytes(tokens, width * size / 2, topk, ranks)


def nvlink_roofline(case: KernelCase, shape: collectives.ExchangeShape) -> FloatArray:
    """Bytes over the link's rate."""
    return np.asarray(shape.wire_bytes / case.device.scale_up_bytes_per_s)
