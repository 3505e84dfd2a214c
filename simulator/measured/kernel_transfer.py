"""How well constants carry to a device that nobody measured, and what thirty measured points add to them.

For every kernel of a device others lend constants as `simulator.costs.transfer` does, without the device and
its whole generation; then 30 points of its `fit` sites are drawn and fitted as `silicast calibrate` does.
Both are scored on the fixed test sites, which neither saw; MLA is not split, so each site is predicted by
points of the others. What is known of a generation is the form of its formula (the tiles of its matrix
units).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from hardware_specs.records.hashing import content_hash
from simulator.costs.calibration import Calibrations, constants_as_written, shipped_calibrations
from simulator.measured.case_points import MAX_POINTS, case_group
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.kernel_cases import all_cases, serving_cases
from simulator.measured.kernel_errors import Errors, errors_of, pooled
from simulator.measured.kernel_map import sampled
from simulator.measured.kernel_releases import BLACKWELL, DEVICES, HOPPER
from simulator.measured.kernel_split import Part
from simulator.measured.point_fit import ENOUGH_POINTS, Draw, PointFit
from simulator.measured.silicon import EXPECTED_VERSION

#: generations that lend to Blackwell; to other devices all but their own
_OLDER = ("ampere", "hopper")
SEEDS = (0, 1)
#: devices that the table has; boxes with GDDR are in no goal
SCORED = ("a100_sxm_80gb", *HOPPER, *BLACKWELL)


@dataclass(frozen=True)
class Transfer:
    """Mean absolute errors of one kernel of one device on its test sites, as fractions.

    `lender` is empty where the same kernel lends, else it says which one stands in, or `none`. `coverage` is
    that of the 90% interval after the points, `log_half_width` its half-width; None where sites are not
    split.
    """

    family: str
    dtype: str
    kernel: str
    device: str
    engine: str
    serves: bool
    lender: str
    n_sites: int
    datasheet: float
    after_points: float
    coverage: float | None
    log_half_width: float | None


@dataclass(frozen=True)
class Study:
    """The scores, and a hash of the constants that were lent."""

    input_hash: str
    scores: tuple[Transfer, ...]


@dataclass(frozen=True)
class _Fold:
    """Rows that points are drawn from, and rows that are scored."""

    drawn: Rows
    scored: Rows


def input_hash() -> str:
    """Of all shipped constants, of the tables' release and of how points are drawn."""
    entries = [
        (d.device, e.family, e.dtype, e.kernel, constants_as_written(e.constants))
        for d in shipped_calibrations().devices
        for e in d.entries
    ]
    return content_hash(json.dumps([EXPECTED_VERSION, ENOUGH_POINTS, SEEDS, entries], sort_keys=True))


def relatives_of(case: KernelCase) -> Calibrations:
    """The calibrations of other generations: for Blackwell those before it, else all others."""
    return _other_generations(case.device.architecture)


@lru_cache
def _other_generations(own: str) -> Calibrations:
    known = shipped_calibrations()
    kept = {
        d.device
        for d in known.devices
        if (d.architecture in _OLDER if own == "blackwell" else d.architecture != own)
    }
    return known.without(*(d.device for d in known.devices if d.device not in kept))


def transferred(case: KernelCase, serves: bool) -> Transfer:
    """The score of one kernel; after points, the mean over draws."""
    relatives, before, after = relatives_of(case), list[Errors](), list[Errors]()
    for fold in _folds(case):
        group = case_group(case, sampled(fold.drawn, MAX_POINTS))
        fits = [PointFit(group, case.device, relatives, Draw(ENOUGH_POINTS, seed)) for seed in SEEDS]
        before.append(errors_of(case, fits[0].prior.constants, fold.scored))
        after += [errors_of(case, fit.constants, fold.scored) for fit in fits]
    half_width = fits[0].unseen.half_width() if case.is_split else None
    return Transfer(
        case.family,
        case.dtype,
        case.kernel,
        case.device_key,
        case.releases[0][0],
        serves,
        _lender(fits[0]),
        pooled(before).n_sites,
        _mape(before),
        _mape(after),
        None if half_width is None else _rounded(np.mean(np.abs(after[0].log_error) <= half_width)),
        None if half_width is None else _rounded(half_width),
    )


def _mape(parts: Iterable[Errors]) -> float:
    return _rounded(pooled(parts).absolute.mean())


def _rounded(value: np.floating | float) -> float:
    return float(f"{value:.4g}")


def _folds(case: KernelCase) -> Iterator[_Fold]:
    if case.is_split:
        yield _Fold(case.fit_rows, case.part(Part.TEST))
        return
    for site in sorted(case.rows["site"].unique()):
        held = case.rows["site"] == site
        yield _Fold(case.rows[~held], case.rows[held])


def _lender(fit: PointFit) -> str:
    if fit.lent is None:
        return "none"
    first, group = fit.lent.lenders[0], fit.group
    return "" if (first.dtype, first.kernel) == (group.dtype, group.kernel) else first.label


def study(wanted: Callable[[KernelCase], bool], say: Callable[[str], None] = print) -> Study:
    """The scores of all kernels of the scored devices that are wanted."""
    serving = {case.label for device in DEVICES for case in serving_cases(device)}
    cases = [case for case in all_cases() if case.device_key in SCORED and wanted(case)]
    scores = []
    for i, case in enumerate(cases):
        scores.append(transferred(case, case.label in serving))
        last = scores[-1]
        say(f"{i + 1}/{len(cases)} {case.label}: {last.datasheet:.1%}, {last.after_points:.1%}")
    return Study(input_hash(), tuple(scores))


def study_json(made: Study) -> str:
    """The study as a file, a score a line."""
    lines = ",\n  ".join(json.dumps(asdict(score)) for score in made.scores)
    return f'{{"input_hash": "{made.input_hash}",\n "scores": [\n  {lines}\n ]}}\n'


def read_study(text: str) -> Study:
    """The study of a file that `study_json` made."""
    content = json.loads(text)
    return Study(content["input_hash"], tuple(Transfer(**score) for score in content["scores"]))


def mean(scores: Sequence[float]) -> float:
    """The mean in percent; nan of none."""
    return 100 * float(np.mean(scores)) if scores else float("nan")
