"""How well the shipped kernel models do on sites that no fit saw, beside the plain roofline.

`python -m simulator.measured.kernel_score` prints the table of every case as markdown; `accuracy_fragment`
is what `docs/accuracy.md` includes. Split families are scored with the shipped constants on their `test`
sites; MLA, batched GEMM and collectives by fits without the site.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.costs.calibrated import Calibrated
from simulator.costs.calibration import shipped_calibrations
from simulator.costs.estimates import FloatArray
from simulator.measured.kernel_calibrate import Errors, FittedCase, errors_of
from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_cases import HOPPER_AND_BLACKWELL, all_cases
from simulator.measured.kernel_map import sampled
from simulator.measured.kernel_split import Part

_MAX_SCORED = 4000
_COLUMNS = (
    *("family", "dtype", "kernel", "device", "sites", "n"),
    *("median", "MAPE", "p90", "bias", "coverage", "±", "roofline"),
)
_LEAD = """Kernel latencies on sites that no fit saw, in percent: absolute errors, median signed error, the
share of calls inside the 90% interval, its half-width, and the MAPE of peak or bandwidth alone (roofline)."""


@dataclass(frozen=True)
class KernelScore:
    """Errors of one kernel on one device, as fractions; `bias` is the median signed error."""

    case: KernelCase
    n: int
    n_sites: int
    median_ape: float
    mape: float
    p90_ape: float
    bias: float
    coverage: float
    half_width: float
    roofline_mape: float

    def row(self) -> str:
        """The score as a row of the markdown table, in percent."""
        case = self.case
        errors = (self.median_ape, self.mape, self.p90_ape)
        cells = [case.family, case.dtype, case.kernel, case.device_key, str(self.n_sites), str(self.n)]
        cells += [f"{100 * value:.1f}" for value in errors] + [f"{100 * self.bias:+.1f}"]
        cells += [f"{100 * self.coverage:.0f}", f"{100 * np.expm1(self.half_width):.0f}"]
        return f"| {' | '.join([*cells, f'{100 * self.roofline_mape:.0f}'])} |"


def shipped(case: KernelCase) -> Calibrated:
    """The entry of the case in the shipped calibrations."""
    device = shipped_calibrations().device(case.device_key)
    entry = device.get(case.family, case.dtype, case.kernel) if device else None
    if entry:
        return entry
    raise LookupError(f"{case.label} is not in the shipped calibrations: run simulator.measured.kernel_fit")


def score(case: KernelCase) -> KernelScore:
    """Errors on test sites, and the share of them inside the shipped interval."""
    entry = shipped(case)
    if case.is_split:
        errors = errors_of(case, entry.constants, case.part(Part.TEST))
    else:
        errors = FittedCase(case).test
    return _scored(case, errors, entry.log_half_width)


def _scored(case: KernelCase, errors: Errors, half_width: float) -> KernelScore:
    size = errors.absolute
    return KernelScore(
        case=case,
        n=len(size),
        n_sites=errors.n_sites,
        median_ape=float(np.median(size)),
        mape=float(size.mean()),
        p90_ape=float(np.quantile(size, 0.9)),
        bias=float(np.median(np.expm1(errors.log_error))),
        coverage=float(np.mean(np.abs(errors.log_error) <= half_width)),
        half_width=half_width,
        roofline_mape=float(_roofline_errors(case).mean()),
    )


def _roofline_errors(case: KernelCase) -> FloatArray:
    rows = sampled(case.part(Part.TEST) if case.is_split else case.rows, _MAX_SCORED)
    measured = rows["latency_s"].to_numpy(np.float64)
    return np.asarray(np.abs(case.roofline_s(case.shape(rows)) / measured - 1))


def mean_mape(scores: Iterable[KernelScore], family: str, dtype: str, kernels: Sequence[str]) -> float:
    """Mean MAPE over the Hopper and Blackwell devices and the named kernels."""
    found = [
        score.mape
        for score in scores
        if (score.case.family, score.case.dtype) == (family, dtype)
        and score.case.kernel in kernels
        and score.case.device_key in HOPPER_AND_BLACKWELL
    ]
    return float(np.mean(found))


def accuracy_fragment(scores: Iterable[KernelScore]) -> str:
    """The table of scores in markdown."""
    header = [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS)]
    return "\n".join([_LEAD, "", *header, *(score.row() for score in scores), ""])


def main() -> None:
    """Score every case and print the table."""
    print(accuracy_fragment([score(case) for case in all_cases()]))


if __name__ == "__main__":
    main()
