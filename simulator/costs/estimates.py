"""What a kernel model returns: latency with its bound, 90% interval and grade, vectorised over shapes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_specs.records.evidence import Grade

FloatArray = NDArray[np.float64]

#: what can limit a kernel; `KernelEstimate.bound` indexes this tuple
BOUNDS = ("launch", "compute", "memory", "operand", "network")


@dataclass(frozen=True)
class KernelEstimate:
    """Latencies in seconds of a batch of kernel calls.

    `bound` indexes `BOUNDS`; `log_half_width` is half the width of the 90% interval in log space, one number
    a call; `evidence` names the calibration that was used.
    """

    latency_s: FloatArray
    bound: NDArray[np.int8]
    log_half_width: FloatArray
    grade: Grade
    evidence: str

    @property
    def low_s(self) -> FloatArray:
        """Lower end of the 90% interval."""
        return np.asarray(self.latency_s * np.exp(-self.log_half_width))

    @property
    def high_s(self) -> FloatArray:
        """Upper end of the 90% interval."""
        return np.asarray(self.latency_s * np.exp(self.log_half_width))
