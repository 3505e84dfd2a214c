"""Maximum a posteriori fit of a family's constants in log space, with a robust loss.

The error is the logarithm of predicted over measured, so short and long kernels weigh the same; a soft-L1
loss bounds what a mistimed row can do; the prior of each constant holds those that the rows do not determine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from simulator.costs.estimates import FloatArray

MAX_EVALUATIONS = 60
#: where the loss turns from quadratic to linear; chosen on the `choose` sites among 0.01 to 0.1
LOSS_SCALE = 0.03


@dataclass(frozen=True)
class Prior:
    """Where a fit begins and is drawn to, and the standard deviation of each log-constant that is fitted."""

    constants: Any
    log_sd: Mapping[str, float]


def map_fit(
    predict: Callable[[Any], FloatArray], measured_s: FloatArray, prior: Prior, scale: float = LOSS_SCALE
) -> Any:
    """The constants that explain the measured seconds best, given the prior.

    `predict` prices the same rows in seconds. Constants without a spread stay where the prior has them.
    """
    base, names = prior.constants, list(prior.log_sd)
    start, spreads = np.log([getattr(base, name) for name in names]), np.array(list(prior.log_sd.values()))
    log_measured = np.log(measured_s)

    def constants(logs: FloatArray) -> Any:
        return replace(base, **dict(zip(names, np.exp(logs).tolist(), strict=True)))

    def residuals(logs: FloatArray) -> FloatArray:
        error = soft_l1(np.log(predict(constants(logs))) - log_measured, scale)
        return np.concatenate([error, scale * (logs - start) / spreads])

    with np.errstate(over="ignore"):  # a trial step may overflow: its loss is infinite and it is refused
        found = least_squares(residuals, start, diff_step=2e-3, max_nfev=MAX_EVALUATIONS, method="trf")
    return constants(found.x)


def soft_l1(error: FloatArray, scale: float = LOSS_SCALE) -> FloatArray:
    """Signed residuals whose squares are the soft-L1 loss: quadratic below the scale, linear above."""
    loss = 2 * (np.sqrt(1 + (error / scale) ** 2) - 1)
    return np.asarray(np.sign(error) * scale * np.sqrt(loss))
