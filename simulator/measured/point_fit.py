"""Fit of a group of measured points on top of what other devices say, with its errors and its interval.

The prior is what the other devices would lend this one (`simulator.costs.transfer`), each constant as loose
as it is between generations. Cross-validation leaves sites out in five folds, or points where there are
fewer than five sites; the 90% interval is conformal on those errors and widened for few sites.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from simulator.costs.calibration import CONSTANTS_OF_FAMILY, Calibrations, constants_as_written
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.transfer import Carried, lent, log_spreads
from simulator.measured.kernel_draw import drawn
from simulator.measured.kernel_errors import Errors, pooled
from simulator.measured.map_fit import Prior, map_fit
from simulator.measured.point_groups import Index, PointGroup

#: looser than for full tables: a handful of points must not be bent by each other's noise; chosen, as the
#: spreads were, on Hopper from 30 points after Ampere, and on Ampere after Hopper and Blackwell
LOSS_SCALE = 0.1
N_FOLDS = 5
MIN_POINTS, ENOUGH_POINTS = 5, 30
_SEED = 0


@dataclass(frozen=True)
class Draw:
    """How many points of a group are fitted, and the seed of their choice."""

    n_points: int
    seed: int


@dataclass(frozen=True)
class PointFit:
    """The fit of one group, of all its points or of a draw; `calibrations` are those of other devices."""

    group: PointGroup
    device: DeviceFigures
    calibrations: Calibrations
    draw: Draw | None = None

    @cached_property
    def lent(self) -> Carried | None:
        """What the other devices lend, or None where none has the kernel or one that stands in."""
        group = self.group
        return lent(self.calibrations.devices, self.device, group.family, group.dtype, group.kernels)

    @cached_property
    def prior(self) -> Prior:
        """The lent constants, or the family's medians, as loose as the family's are between generations."""
        kind = CONSTANTS_OF_FAMILY[self.group.family]
        base = self.lent.constants if self.lent else kind()
        known = log_spreads(self.calibrations.devices, kind, self.group.family)
        spreads = {name: sd for name, sd in known.items() if name not in self.group.fixed}
        return Prior(replace(base, **dict(self.group.form)), spreads)

    @cached_property
    def used(self) -> Index:
        """The index of the points that are fitted."""
        if self.draw is None or len(self.group) <= self.draw.n_points:
            return np.arange(len(self.group))
        expected_s = self.group.predict(self.prior.constants, np.arange(len(self.group)))
        return drawn(expected_s, self.group.sites, self.draw.n_points, self.draw.seed)

    @cached_property
    def constants(self) -> Any:
        """The fitted constants."""
        return self._fit(self.used)

    def _fit(self, index: Index) -> Any:
        group = self.group
        return map_fit(lambda c: group.predict(c, index), group.latency_s[index], self.prior, LOSS_SCALE)

    @cached_property
    def before(self) -> Errors:
        """Errors of the prior."""
        return self.errors(self.prior.constants, self.used)

    @cached_property
    def after(self) -> Errors:
        """In-sample errors of the fit."""
        return self.errors(self.constants, self.used)

    @cached_property
    def unseen(self) -> Errors:
        """Errors on each fold by a fit on the others."""
        return pooled(self.errors(self._fit(np.setdiff1d(self.used, fold)), fold) for fold in self._folds())

    @cached_property
    def left(self) -> Errors | None:
        """Errors on the points that were not drawn; None where all were fitted."""
        rest = np.setdiff1d(np.arange(len(self.group)), self.used)
        return self.errors(self.constants, rest) if rest.size else None

    @property
    def used_sites(self) -> tuple[str, ...]:
        """The site of each point that is fitted."""
        return tuple(self.group.sites[i] for i in self.used.tolist())

    @property
    def folded_by(self) -> Literal["site", "point"]:
        """What a fold of the cross-validation leaves out."""
        return "site" if len(set(self.used_sites)) >= N_FOLDS else "point"

    def _folds(self) -> Iterator[Index]:
        order = np.random.default_rng(_SEED).permutation(len(self.used))
        names = self.used_sites if self.folded_by == "site" else tuple(f"{one:06}" for one in order)
        place = {name: i % N_FOLDS for i, name in enumerate(sorted(set(names)))}
        fold_of = np.array([place[name] for name in names])
        for fold in range(N_FOLDS):
            yield self.used[fold_of == fold]

    def errors(self, constants: Any, index: Index) -> Errors:
        """Errors of constants on some of the points."""
        predicted = self.group.predict(constants, index)
        log_error: FloatArray = np.log(predicted / self.group.latency_s[index])
        return Errors(log_error, pd.Series([self.group.sites[i] for i in index.tolist()]))

    @property
    def note(self) -> str:
        """What is thin about the fit; empty where nothing is."""
        few = len(self.used) < ENOUGH_POINTS
        parts = [f"{len(self.used)} points, fewer than {ENOUGH_POINTS}"] if few else []
        if self.folded_by == "point":
            parts.append(f"{len(set(self.used_sites))} sites: cross-validated by point")
        if self.lent is None:
            parts.append("no other device has this kernel: prior of the family")
        elif (self.lent.lenders[0].dtype, self.lent.lenders[0].kernel) != (
            self.group.dtype,
            self.group.kernel,
        ):
            parts.append(f"prior from {self.lent.lenders[0].label}")
        return "; ".join(parts)

    def entry(self, source: str) -> dict[str, object]:
        """The fit as an entry of a calibration file."""
        group = self.group
        return {
            "family": group.family,
            "dtype": group.dtype,
            "kernel": group.kernel,
            "source": source,
            "kind": "fitted",
            "n_points": len(self.used),
            "n_sites": self.after.n_sites,
            "fit_mape": _rounded(self.after.absolute.mean()),
            "cross_validated_mape": _rounded(self.unseen.absolute.mean()),
            "cross_validated_by": self.folded_by,
            "transferred_mape": _rounded(self.before.absolute.mean()),
            "log_half_width": _rounded(self.unseen.half_width()),
            "constants": constants_as_written(self.constants),
        }


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
