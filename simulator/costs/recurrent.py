"""Mamba-2's scan, in chunks or step by step. Nothing is fitted: the package has no table of it.

A step of one token streams the state of every sequence and computes next to nothing: it is priced as any
kernel that moves bytes. Several tokens a sequence are worked on in chunks whose products run on matrix units,
all chunks side by side, in `launches` kernels after each other. The share of the peak that a busy SM reaches
is assumed. The gated delta rule, whose chunks follow each other, has tables and is priced by `marching`.

References: Mamba-2 (arXiv 2405.21060) section 6.
"""

from dataclasses import dataclass

import numpy as np

from simulator.costs.bandwidth import BandwidthConstants
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.numerics import Priced, largest_term

PEAK_SHARE = 0.5  # of an SM's matrix peak, by its products in chunks of 64 to 256 rows


#: kernels of a scan in chunks: decays, states of chunks, passing them on, products of B and C, outputs
LAUNCHES = {"mamba2_scan": 5}


@dataclass(frozen=True)
class RecurrenceShape:
    """Work of a scan, the blocks of it that can run at the same time, and kernels launched."""

    flop: FloatArray
    traffic_bytes: FloatArray
    blocks: FloatArray
    launches: int


def recurrence_latency(
    shape: RecurrenceShape, peak_flop_per_s: float, device: DeviceFigures, c: BandwidthConstants
) -> Priced:
    """Latency of each scan in seconds: its launches, then its bytes or its products on the SMs it fills."""
    idle = np.maximum(device.n_sm / shape.blocks, 1)
    compute_s = shape.flop / (PEAK_SHARE * peak_flop_per_s) * idle
    memory_s = shape.traffic_bytes / (c.bandwidth_efficiency * device.bandwidth_bytes_per_s)
    launch_s = np.full_like(memory_s, shape.launches * c.launch_s)
    bound = largest_term(launch=launch_s, compute=compute_s, memory=memory_s)
    return Priced(launch_s + np.maximum(compute_s, memory_s), bound)
