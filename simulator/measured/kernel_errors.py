"""Errors of kernel predictions on rows, and their intervals, conformal by site."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simulator.costs.estimates import FloatArray
from simulator.costs.residual import Residual
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.kernel_map import sampled
from simulator.measured.kernel_residual import applied

COVERAGE = 0.9
MAX_SCORED = 4000


@dataclass(frozen=True)
class Errors:
    """Logarithms of predicted over measured, with the site of each row.

    `spread` is the half-width in log space that the prediction says of itself, 1 where it says nothing.
    """

    log_error: FloatArray
    site: "pd.Series[str]"
    spread: FloatArray | float = 1.0

    @property
    def n_sites(self) -> int:
        """Sites behind the errors."""
        return int(self.site.nunique())

    @property
    def absolute(self) -> FloatArray:
        """Absolute relative errors."""
        return np.abs(np.expm1(self.log_error))

    def half_width(self) -> float:
        """Half-width, in spreads, that covers 90% of the rows of an unseen site, sites weighing the same.

        Few sites say little about the next one: the width grows by one part in the number of sites.
        """
        size = np.abs(self.log_error) / self.spread
        weight = 1.0 / self.site.map(self.site.value_counts()).to_numpy(np.float64)
        order = np.argsort(size)
        share = np.cumsum(weight[order]) / weight.sum()
        quantile = size[order][int(np.searchsorted(share, COVERAGE))]
        return float(quantile * (1 + 1 / self.n_sites))

    def within(self, half_width: FloatArray | float) -> float:
        """Share of the rows inside of a band."""
        return float(np.mean(np.abs(self.log_error) <= half_width))

    def interval_score(self, half_width: FloatArray | float) -> float:
        """Mean interval score in log space: the width, and 2 / (1 - 90%) times what lies outside of it."""
        outside = np.maximum(np.abs(self.log_error) - half_width, 0)
        return float(np.mean(2 * np.asarray(half_width) + 2 / (1 - COVERAGE) * outside))


def errors_of(case: KernelCase, constants: Any, rows: Rows, residual: Residual | None = None) -> Errors:
    """Errors of a prediction on (at most 4,000 of) the rows."""
    rows = sampled(rows, MAX_SCORED)
    shape = case.shape(rows)
    log_correction, half_width = applied(residual, case, shape)
    predicted = case.latency_s(shape, constants)
    log_error = np.log(predicted / rows["latency_s"].to_numpy(np.float64)) + log_correction
    spread = np.ones(len(rows)) if half_width is None else half_width
    return Errors(log_error, rows["site"].reset_index(drop=True), spread)


def pooled(parts: Iterable[Errors]) -> Errors:
    """The errors of several parts together."""
    found = list(parts)
    sites = pd.concat([part.site for part in found], ignore_index=True)
    spreads = [np.broadcast_to(part.spread, len(part.log_error)) for part in found]
    return Errors(np.concatenate([part.log_error for part in found]), sites, np.concatenate(spreads))
