"""From fitted constants to the entries of calibration files: errors, conformal intervals, transfer widths.

The 90% interval of a kernel is conformal by site: errors on sites that a fit did not see, every site with
the same weight. Those are the `choose` sites, and the `fit` sites in folds; for the families that are not
split, each site left out in turn. `test` sites take no part.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np

from simulator.costs.calibrated import Calibrated
from simulator.costs.calibration import constants_as_written, shipped_calibrations
from simulator.costs.estimates import FloatArray
from simulator.costs.residual import Residual
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.kernel_errors import COVERAGE, Errors, errors_of, pooled
from simulator.measured.kernel_map import MAX_POINTS, fit, sampled
from simulator.measured.kernel_residual import fit_residual
from simulator.measured.kernel_split import Part

_N_FOLDS = 4
_N_FOLDS_OF_FEW = 8
#: `choose` sites that are enough to set an interval
_ENOUGH_SITES = 5


def shipped(case: KernelCase) -> Calibrated:
    """The entry of the case in the shipped calibrations."""
    device = shipped_calibrations().device(case.device_key)
    entry = device.get(case.family, case.dtype, case.kernel) if device else None
    if entry:
        return entry
    raise LookupError(f"{case.label} is not in the shipped calibrations: run simulator.measured.kernel_fit")


@dataclass(frozen=True)
class FittedCase:
    """A case with its shipped constants and residual, and the errors on sites that a fit did not see.

    Constants are fitted, unless those of an entry are `kept`; so is its residual, unless it is `refitted`.
    """

    case: KernelCase
    kept: Calibrated | None = None
    refitted: bool = False

    @property
    def label(self) -> str:
        """Family, dtype and kernel, as the arrays of the residual are called."""
        return f"{self.case.family} {self.case.dtype} {self.case.kernel}"

    @cached_property
    def fit_rows(self) -> Rows:
        """What the shipped constants are fitted on."""
        return self.case.fit_rows

    @cached_property
    def constants(self) -> Any:
        """The shipped constants."""
        return self.kept.constants if self.kept else fit(self.case, self.fit_rows)

    @cached_property
    def residual(self) -> Residual | None:
        """The shipped residual, if the kernel has one; its factor is conformal by site."""
        found = self._found_residual
        if found is None or self._is_kept:
            return found
        return replace(found, factor=self.corrected.half_width())

    @property
    def _is_kept(self) -> bool:
        return self.kept is not None and not self.refitted

    @cached_property
    def _found_residual(self) -> Residual | None:
        if self.kept and self._is_kept:
            return self.kept.residual
        return fit_residual(self.case, self.constants, self.fit_rows)

    @cached_property
    def log_half_width(self) -> float:
        """Of the 90% interval of the formula alone."""
        return self.kept.log_half_width if self.kept else self.unseen.half_width()

    @cached_property
    def unseen(self) -> Errors:
        """Errors of the formula alone on unseen sites that may set its interval."""
        folds = [errors_of(self.case, constants, held) for constants, _, held in self._folds]
        return pooled([*folds, *self._on_choose(None)])

    @cached_property
    def corrected(self) -> Errors:
        """Errors with the residual on unseen sites that may set its interval.

        Those are the `choose` sites. Where they are few, folds of the fitted sites join them, each with a
        residual fitted on the others.
        """
        found = self._on_choose(self._found_residual)
        if found and found[0].n_sites >= _ENOUGH_SITES:
            return found[0]
        return pooled([*self._corrected_folds(), *found])

    @cached_property
    def test(self) -> Errors:
        """Errors on the test sites; where sites are not split, each is predicted by a fit without it."""
        if self.case.is_split:
            return errors_of(self.case, self.constants, self.case.part(Part.TEST), self.residual)
        if self._found_residual is None:
            return self.unseen
        return replace(self.corrected, spread=self.corrected.spread * self.corrected.half_width())

    @cached_property
    def test_of_formula(self) -> Errors:
        """The same of the formula alone."""
        if self.case.is_split:
            return errors_of(self.case, self.constants, self.case.part(Part.TEST))
        return self.unseen

    def test_half_width(self) -> FloatArray:
        """Half-width of the interval of each row of `test`."""
        width = self.test.spread if self.residual else self.log_half_width
        return np.broadcast_to(width, len(self.test.log_error))

    def _on_choose(self, residual: Residual | None) -> list[Errors]:
        choose = self.case.part(Part.CHOOSE)
        if not self.case.is_split or choose.empty:
            return []
        return [errors_of(self.case, self.constants, choose, residual)]

    def _corrected_folds(self) -> Iterator[Errors]:
        """A fold without a residual of its own is as uncertain as the formula is far from data."""
        shared = ((self.constants, *rows) for rows in self._rows_of_folds())
        for constants, others, held in shared if self.case.is_split else self._folds:
            residual = fit_residual(self.case, constants, others)
            found = errors_of(self.case, constants, held, residual)
            far = self._found_residual.far_spread if self._found_residual else 1.0
            yield found if residual else replace(found, spread=np.full(len(found.log_error), far))

    @cached_property
    def _folds(self) -> list[tuple[Any, Rows, Rows]]:
        """The folds, each with constants fitted on the others."""
        return [(fit(self.case, others), others, held) for others, held in self._rows_of_folds()]

    def _rows_of_folds(self) -> Iterator[tuple[Rows, Rows]]:
        """For each fold of sites: rows of the others, and its own."""
        sites = np.array(sorted(self.fit_rows["site"].unique()))
        n_folds = min(_N_FOLDS if self.case.is_split else _N_FOLDS_OF_FEW, len(sites))
        for fold in range(n_folds):
            held = self.fit_rows["site"].isin(sites[fold::n_folds])
            yield self.fit_rows[~held], self.fit_rows[held]

    def told(self) -> dict[str, object]:
        """What a prediction depends on, in the digits of the file."""
        residual = self.residual
        scales = (residual.usual_spread, residual.far_spread, residual.factor) if residual else ()
        return {
            "constants": constants_as_written(self.constants),
            "log_half_width": _rounded(self.log_half_width),
            "scales": [_rounded(value) for value in scales],
            "arrays": [sha256(array.tobytes()).hexdigest() for array in residual.bumps.arrays]
            if residual
            else [],
        }

    def entry(self) -> dict[str, object]:
        """The case as an entry of its device's file."""
        case = self.case
        in_sample = errors_of(case, self.constants, self.fit_rows, self.residual)
        entry: dict[str, object] = {
            "family": case.family,
            "dtype": case.dtype,
            "kernel": case.kernel,
            "source": case.source,
            "kind": "fitted",
            "n_points": len(sampled(self.fit_rows, MAX_POINTS)),
            "n_sites": in_sample.n_sites,
            "fit_mape": _rounded(in_sample.absolute.mean()),
            "test_mape": _rounded(self.test.absolute.mean()),
            "test_sites": self.test.n_sites,
            "log_half_width": _rounded(self.log_half_width),
            "constants": constants_as_written(self.constants),
        }
        return entry | ({"residual": self._residual_as_written()} if self.residual else {})

    def _residual_as_written(self) -> dict[str, float]:
        residual = self.residual
        assert residual is not None
        return {
            "usual_spread": _rounded(residual.usual_spread),
            "far_spread": _rounded(residual.far_spread),
            "factor": _rounded(residual.factor),
            "formula_mape": _rounded(self.test_of_formula.absolute.mean()),
            "median_half_width": _rounded(np.median(self.test_half_width())),
        }


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


_PAIRS_WITHIN = (("h100_sxm", "h200_sxm"), ("b200_sxm", "gb200"))
_PAIRS_ACROSS = (("a100_sxm_80gb", "h100_sxm"), ("h100_sxm", "b200_sxm"), ("h200_sxm", "gb200"))


def transfer_widths(fitted: Iterable[FittedCase]) -> dict[str, dict[str, float]]:
    """Half-widths by family of constants carried to a sibling, and to another generation.

    The 90th percentile of the error of one device's constants on another's rows, averaged over pairs in both
    directions. A family that no pair shares across generations takes three times its width within one.
    """
    known = {(f.case.device_key, f.case.family, f.case.dtype, f.case.kernel): f for f in fitted}
    widths: dict[str, dict[str, float]] = {}
    for family in sorted({key[1] for key in known}):
        within = _mean_transfer_error(known, family, _PAIRS_WITHIN)
        across = _mean_transfer_error(known, family, _PAIRS_ACROSS) or 3 * (within or 0.2)
        widths[family] = {
            "within_architecture": _rounded(within or across),
            "across_architectures": _rounded(max(across, within or 0.0)),
        }
    return widths


def _mean_transfer_error(
    known: dict[tuple[str, str, str, str], FittedCase], family: str, pairs: Iterable[tuple[str, str]]
) -> float | None:
    errors = []
    for first, second in pairs:
        for source, target in ((first, second), (second, first)):
            for key, there in known.items():
                here = known.get((source, *key[1:]))
                if key[0] == target and key[1] == family and here is not None:
                    found = errors_of(there.case, here.constants, sampled(there.fit_rows, MAX_POINTS))
                    errors.append(float(np.quantile(np.abs(found.log_error), COVERAGE)))
    return float(np.mean(errors)) if errors else None
