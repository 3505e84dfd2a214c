"""Operators that only move bytes: norms, short convolutions, rotary embedding, activations, cache writes."""

from dataclasses import dataclass

import numpy as np

from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.numerics import Priced, constant, largest_term

KINDS = (
    "embedding",
    "rmsnorm",
    "add_rmsnorm",
    "layernorm",
    "add_layernorm",
    "sum_layernorm",
    "rope",
    "rope_qk",
    "kv_append",
    "scale_queries",
    "silu_mul",
    "activation",
    "sigmoid_mul",
    "gated_rmsnorm",
    "causal_conv1d",
    "mamba2_scan",
    "gated_delta_rule",
    "gelu_mul",
    "image_tokens",
    "moe_route",
    "add",
    "concat",
    "quantize",
    "cast",
    "topk",
)


@dataclass(frozen=True)
class BandwidthConstants:
    """A launch inside a CUDA graph and the share of the bandwidth that a simple kernel reaches."""

    launch_s: float = constant(1.0, 0.5, "us")
    bandwidth_efficiency: float = constant(0.75, 0.1)


def bandwidth_latency(traffic_bytes: FloatArray, device: DeviceFigures, c: BandwidthConstants) -> Priced:
    """Latency of moving `traffic_bytes`, in seconds."""
    memory_s = traffic_bytes / (c.bandwidth_efficiency * device.bandwidth_bytes_per_s)
    launch_s = np.full_like(memory_s, c.launch_s)
    return Priced(launch_s + memory_s, largest_term(launch=launch_s, memory=memory_s))
