"""Recurrent mixers: Mamba-2's scan and the gated delta rule, in chunks or step by step. Nothing is fitted.

A step of one token streams the state of every sequence and computes next to nothing: it is priced as any
kernel that moves bytes. Several tokens a sequence are worked on in chunks whose products run on matrix units,
`launches` kernels after each other. Mamba-2 works on all chunks side by side. The chunks of the delta rule
follow each other, so one sequence of few heads leaves most of the device idle. The share of the peak that a
busy SM reaches is assumed.

Beside the tables of aiconfigurator-core 0.12.0 for the delta rule (those of vLLM on H200 were looked at when
the form was chosen, so its agreement is no test): steps of 64 and more sequences take 0.9 to 1.0 times what
is said here under vLLM and SGLang and 0.7 under TensorRT-LLM (H200, B200); chunks of 8,192 and more tokens
1.1 times under vLLM on H200 and 1.9 on B200, and 4.5 to 8.7 times under the other two, whose kernels are not
fused. There is no table of Mamba-2's scan.

References: Mamba-2 (arXiv 2405.21060) section 6; Gated DeltaNet (arXiv 2412.06464) section 3.3.
"""

from dataclasses import dataclass

import numpy as np

from simulator.costs.bandwidth import BandwidthConstants
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.numerics import Priced, largest_term

PEAK_SHARE = 0.5  # of an SM's matrix peak, by its products in chunks of 64 to 256 rows


@dataclass(frozen=True)
class Recurrence:
    """How a scan runs in chunks: kernels launched, and whether the chunks of a head wait for each other."""

    launches: int
    sequential: bool


#: Mamba-2: decays, states of chunks, passing them on, products of B and C, outputs; the delta rule: decays,
#: products of keys, inverse of the triangle, what is written, states, outputs
RECURRENCES = {
    "mamba2_scan": Recurrence(5, sequential=False),
    "gated_delta_rule": Recurrence(6, sequential=True),
}


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
