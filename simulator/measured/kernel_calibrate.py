"""From fitted constants to the shipped calibration files: errors, conformal intervals, transfer widths, YAML.

The 90% interval of a kernel is conformal by site: errors on sites that a fit did not see, every site with
the same weight. Those are the `choose` sites, and the `fit` sites in folds; for the families that are not
split, each site left out in turn. `test` sites take no part.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from simulator.costs.calibration import SCHEMA_VERSION, constants_as_written
from simulator.costs.estimates import FloatArray
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.kernel_map import MAX_POINTS, fit, sampled
from simulator.measured.kernel_split import Part

_COVERAGE = 0.9
_N_FOLDS = 4
_MAX_SCORED = 4000
#: what the fitter does not fit, because no public table measures it
_BANDWIDTH_ENTRY: dict[str, object] = {
    "family": "bandwidth",
    "dtype": "any",
    "kernel": "elementwise",
    "source": "1 us a small kernel and 0.75 of the bandwidth: the values behind this project's serving fits",
    "kind": "assumed",
    "n_points": 0,
    "n_sites": 0,
    "log_half_width": 0.35,
    "constants": {"launch_s": "1 us", "bandwidth_efficiency": 0.75},
}


@dataclass(frozen=True)
class Errors:
    """Logarithms of predicted over measured, with the site of each row."""

    log_error: FloatArray
    site: "pd.Series[str]"

    @property
    def n_sites(self) -> int:
        """Sites behind the errors."""
        return int(self.site.nunique())

    @property
    def absolute(self) -> FloatArray:
        """Absolute relative errors."""
        return np.abs(np.expm1(self.log_error))

    def half_width(self) -> float:
        """Half-width in log space that covers 90% of the rows of an unseen site, sites weighing the same.

        Few sites say little about the next one: the width grows by one part in the number of sites.
        """
        size = np.abs(self.log_error)
        weight = 1.0 / self.site.map(self.site.value_counts()).to_numpy(np.float64)
        order = np.argsort(size)
        share = np.cumsum(weight[order]) / weight.sum()
        quantile = size[order][int(np.searchsorted(share, _COVERAGE))]
        return float(quantile * (1 + 1 / self.n_sites))


def errors_of(case: KernelCase, constants: Any, rows: Rows) -> Errors:
    """Errors of a prediction on (at most 4,000 of) the rows."""
    rows = sampled(rows, _MAX_SCORED)
    predicted = case.latency_s(case.shape(rows), constants)
    log_error = np.log(predicted / rows["latency_s"].to_numpy(np.float64))
    return Errors(log_error, rows["site"].reset_index(drop=True))


def pooled(parts: Iterable[Errors]) -> Errors:
    """The errors of several parts together."""
    found = list(parts)
    sites = pd.concat([part.site for part in found], ignore_index=True)
    return Errors(np.concatenate([part.log_error for part in found]), sites)


@dataclass(frozen=True)
class FittedCase:
    """A case with its shipped constants and the errors on sites that a fit did not see."""

    case: KernelCase

    @cached_property
    def fit_rows(self) -> Rows:
        """What the shipped constants are fitted on."""
        return self.case.fit_rows

    @cached_property
    def constants(self) -> Any:
        """The shipped constants."""
        return fit(self.case, self.fit_rows)

    @cached_property
    def unseen(self) -> Errors:
        """Errors on unseen sites that may set the interval."""
        folds = list(self._held_out())
        if self.case.is_split and len(choose := self.case.part(Part.CHOOSE)):
            folds.append(errors_of(self.case, self.constants, choose))
        return pooled(folds)

    @cached_property
    def test(self) -> Errors:
        """Errors on the test sites; where sites are not split, each is predicted by a fit without it."""
        if self.case.is_split:
            return errors_of(self.case, self.constants, self.case.part(Part.TEST))
        return self.unseen

    def _held_out(self) -> Iterator[Errors]:
        """Errors on each fold of sites by a fit on the others."""
        sites = np.array(sorted(self.fit_rows["site"].unique()))
        n_folds = min(_N_FOLDS, len(sites)) if self.case.is_split else len(sites)
        for fold in range(n_folds):
            held = self.fit_rows["site"].isin(sites[fold::n_folds])
            constants = fit(self.case, self.fit_rows[~held])
            yield errors_of(self.case, constants, self.fit_rows[held])

    def entry(self) -> dict[str, object]:
        """The case as an entry of its device's file."""
        case = self.case
        in_sample = errors_of(case, self.constants, self.fit_rows)
        return {
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
            "log_half_width": _rounded(self.unseen.half_width()),
            "constants": constants_as_written(self.constants),
        }


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def write_device(folder: Path, fitted: Iterable[FittedCase]) -> Path:
    """Write the calibration file of one device and return its path."""
    cases = list(fitted)
    device = cases[0].case.device
    document = {
        "schema_version": SCHEMA_VERSION,
        "device": device.key,
        "architecture": device.architecture,
        "figures": {
            "n_sm": device.n_sm,
            "clock": f"{device.clock_hz / 1e9:.6g} GHz",
            "l2": f"{device.l2_bytes / 1e6:.6g} MB",
            "bandwidth": f"{device.bandwidth_bytes_per_s / 1e12:.6g} TB/s",
            "scale_up_link": f"{device.scale_up_bytes_per_s / 1e9:.6g} GB/s",
        },
        "entries": [case.entry() for case in cases] + [_BANDWIDTH_ENTRY],
    }
    path = folder / f"kernels_{device.key}.yaml"
    header = (
        f"# Kernel constants of {device.key}, written by `python -m simulator.measured.kernel_fit`.\n"
        f"# figures: what the fit read from devices/{device.key}.yaml and its parts, with their sources.\n"
        "# errors: mean absolute, as fractions; log_half_width: of the 90% interval, conformal by site.\n"
    )
    path.write_text(header + yaml.safe_dump(document, sort_keys=False, width=110), encoding="utf-8")
    return path


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
                    errors.append(float(np.quantile(np.abs(found.log_error), _COVERAGE)))
    return float(np.mean(errors)) if errors else None


def write_transfer(folder: Path, fitted: Iterable[FittedCase]) -> Path:
    """Write the transfer widths of every family and return their path."""
    widths = transfer_widths(fitted) | {
        "bandwidth": {"within_architecture": 0.4, "across_architectures": 0.5}
    }
    document = {
        "schema_version": SCHEMA_VERSION,
        "source": "one device's constants on another's rows, aiconfigurator-core 0.12.0 (bandwidth: assumed)",
        "kind": "fitted",
        "families": widths,
    }
    path = folder / "kernel_transfer.yaml"
    header = "# Half-widths in log space of constants carried to another device; written by kernel_fit.\n"
    path.write_text(header + yaml.safe_dump(document, sort_keys=False, width=110), encoding="utf-8")
    return path
