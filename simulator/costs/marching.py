"""Kernels whose thread blocks march along a sequence or a row, a step after another.

Chunked scans (the gated delta rule), short convolutions, the scores and the choice of an indexer, attention
to chosen tokens and quantisation have one time in common: blocks fill the SMs in waves, and each takes a
fixed time and a time for every step of its march. Products on matrix units and traffic overlap with it; the
slowest of the three counts.
"""

from dataclasses import dataclass

import numpy as np

from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.numerics import Priced, cache_hit, constant, largest_term, smooth_max, soft_waves

_L2_SHARE = 0.5
#: families of kernels that march
MARCHING = ("delta_rule", "causal_conv", "index_scores", "index_choice", "sparse_attention", "quantize")


@dataclass(frozen=True)
class MarchConstants:
    """What is fitted for one kernel on one device; a step is what the shape of the family says."""

    launch_s: float = constant(3.0, 0.5, "us")
    tensor_efficiency: float = constant(0.5, 0.3)
    bandwidth_efficiency: float = constant(0.75, 0.15)
    block_s: float = constant(1.0, 1.0, "us")
    step_s: float = constant(0.5, 1.0, "us")
    blocks_per_sm: float = constant(2.0, 0.7)
    wave_softness: float = constant(1.0, 0.8)
    l2_speedup: float = constant(2.5, 0.3)
    sharpness: float = constant(3.0, 0.3)


@dataclass(frozen=True)
class MarchShape:
    """Work of a call, its thread blocks and the steps that each of them takes one after another."""

    flop: FloatArray
    traffic_bytes: FloatArray
    blocks: FloatArray
    steps: FloatArray

    def __len__(self) -> int:
        return len(self.flop)


def march_latency(
    shape: MarchShape,
    peak_flop_per_s: float,
    device: DeviceFigures,
    c: MarchConstants,
    *,
    cold: bool = True,
) -> Priced:
    """Latency of each call in seconds; `cold` means that its operands come from DRAM."""
    waves = soft_waves(shape.blocks / (device.n_sm * c.blocks_per_sm), c.wave_softness)
    march_s = waves * (c.block_s + c.step_s * shape.steps)
    compute_s = shape.flop / (peak_flop_per_s * c.tensor_efficiency)
    traffic = shape.traffic_bytes
    hit = 0.0 if cold else cache_hit(traffic, _L2_SHARE * device.l2_bytes, 2)
    rate = c.bandwidth_efficiency * device.bandwidth_bytes_per_s
    memory_s = traffic * (1 - hit + hit / c.l2_speedup) / rate
    body_s = smooth_max(c.sharpness, march_s, compute_s, memory_s)
    launch_s = np.full_like(body_s, c.launch_s)
    bound = largest_term(launch=launch_s + march_s, compute=compute_s, memory=memory_s)
    floor_s = roofline_s(shape, peak_flop_per_s, device) if cold else None
    return Priced(launch_s + body_s, bound, shape, floor_s)


def roofline_s(shape: MarchShape, peak_flop_per_s: float, device: DeviceFigures) -> FloatArray:
    """The plain roofline: peak or bandwidth, whichever binds."""
    return np.maximum(shape.flop / peak_flop_per_s, shape.traffic_bytes / device.bandwidth_bytes_per_s)
