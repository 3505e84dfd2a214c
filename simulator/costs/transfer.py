"""Constants for a device that nobody measured: those of its nearest calibrated relatives.

The nearest generation that has the kernel lends the mean of its devices' log-constants, near devices (by
bandwidth a multiprocessor) weighing more. Efficiencies and shares are the hardware's and carry over as they
are. Times (launch, block, combine) are the kernel's: the next generation runs a new kernel, so in the
families of `_RULES` a time is drawn half-way to the mean of the family's kernels and follows half of the
trend that all its kernels show from generation to generation. Rules were chosen on Hopper predicted from
Ampere, Ampere from newer ones, and Hopper from both, never on the test sites of the kernel tables.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Any

import numpy as np

from simulator.costs.calibrated import Calibrated, DeviceCalibration
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.generations import distance
from simulator.costs.kernel_choice import ANY_MOE
from simulator.costs.numerics import ConstantSpec, constant_specs

#: the generations along which kernels' times show a trend, from old to new
_LINE = ("ampere", "hopper", "blackwell")


@dataclass(frozen=True)
class Rule:
    """How much of a kernel's times is the family's, and how much of the trend of generations is followed."""

    to_family: float = 0.0
    trend: float = 0.0


_RULES = {"attention_decode": Rule(to_family=0.5, trend=0.5)}
#: generation pairs that halve a trend: a slope of few pairs is drawn to none
_TREND_PRIOR_PAIRS = 2.0
#: pairs of generations that a declared spread counts as
_DECLARED_PAIRS = 2.0


#: dtypes in which a generation may have no kernels yet, and those whose constants then stand in
_STAND_INS = {
    "nvfp4": ("fp8_block", "fp8"),
    "fp8_block": ("fp8",),
    "fp8": ("bf16",),
    "mxfp4_mxfp8": ("fp8_block", "fp8"),
    "mxfp4_bf16": ("bf16",),
}


@dataclass(frozen=True)
class Carried:
    """Constants for a device, the entries that lent them, and whether those are of its own generation."""

    constants: Any
    lenders: tuple[Calibrated, ...]
    within_architecture: bool


def carried(
    relatives: Iterable[DeviceCalibration],
    target: DeviceFigures,
    family: str,
    dtype: str,
    kernels: Sequence[str],
) -> Carried | None:
    """Constants of the first of these kernels that the nearest generation has, or None."""
    known = list(relatives)

    def gap(device: DeviceCalibration) -> int:
        return distance(target.architecture, device.architecture)

    for far, devices in groupby(sorted(known, key=gap), gap):
        group = list(devices)
        for kernel in kernels:
            lent = [(d, entry) for d in group if (entry := d.get(family, dtype, kernel))]
            if lent:
                weights = [_nearness(d, target) for d, _ in lent]
                entries = tuple(entry for _, entry in lent)
                logs = _mean_logs(entries, weights)
                if far:
                    logs = _ruled(logs, group, known, target.architecture, family)
                nearest = entries[int(np.argmax(weights))].constants
                return Carried(with_logs(nearest, logs), entries, far == 0)
    return None


def _nearness(device: DeviceCalibration, target: DeviceFigures) -> float:
    own = target.bandwidth_bytes_per_s / target.n_sm
    return float(np.exp(-(np.log(device.bandwidth_per_sm / own) ** 2)))


def logs_of(constants: Any) -> FloatArray:
    """Logarithms of the fitted constants, in the order of their specs."""
    return np.log([getattr(constants, spec.name) for spec in constant_specs(type(constants))])


def _mean_logs(entries: Sequence[Calibrated], weights: Sequence[float] | None = None) -> FloatArray:
    return np.asarray(np.average([logs_of(entry.constants) for entry in entries], axis=0, weights=weights))


def with_logs(constants: Any, logs: FloatArray) -> Any:
    """The constants with these logarithms in place of those of `logs_of`."""
    names = [spec.name for spec in constant_specs(type(constants))]
    return replace(constants, **dict(zip(names, np.exp(logs).tolist(), strict=True)))


def _ruled(
    logs: FloatArray,
    lenders: Sequence[DeviceCalibration],
    known: Sequence[DeviceCalibration],
    architecture: str,
    family: str,
) -> FloatArray:
    """Times of the kernel under the family's rule, for a device of another architecture."""
    rule = _RULES.get(family)
    if rule is None:
        return logs
    own = [entry for device in lenders for entry in device.entries if entry.family == family]
    moved = (1 - rule.to_family) * logs + rule.to_family * _mean_over_kernels(own)
    ends = (lenders[0].architecture, architecture)
    if all(end in _LINE for end in ends):
        steps = _LINE.index(architecture) - _LINE.index(ends[0])
        moved = moved + rule.trend * steps * _trend(known, family, len(logs))
    return np.where([_is_time(spec) for spec in constant_specs(type(own[0].constants))], moved, logs)


def _is_time(spec: ConstantSpec) -> bool:
    return spec.dimension == "s"


def _mean_over_kernels(entries: Sequence[Calibrated]) -> FloatArray:
    """The mean over kernels, each the mean over its devices."""
    return np.asarray(np.mean([_mean_logs(of) for of in _by_kernel(entries).values()], axis=0))


def _by_kernel(entries: Iterable[Calibrated]) -> Mapping[tuple[str, str], list[Calibrated]]:
    found: dict[tuple[str, str], list[Calibrated]] = defaultdict(list)
    for entry in entries:
        found[entry.dtype, entry.kernel].append(entry)
    return found


def _trend(known: Sequence[DeviceCalibration], family: str, n_constants: int) -> FloatArray:
    """Change of the log-constants a generation: the median over kernels and pairs, drawn to none."""
    slopes = list(_slopes(known, family))
    if not slopes:
        return np.zeros(n_constants)
    return np.asarray(np.median(slopes, axis=0) * len(slopes) / (len(slopes) + _TREND_PRIOR_PAIRS))


def _slopes(known: Sequence[DeviceCalibration], family: str) -> Iterator[FloatArray]:
    means: dict[tuple[str, str], dict[int, FloatArray]] = defaultdict(dict)
    for generation, name in enumerate(_LINE):
        own = [e for d in known if d.architecture == name for e in d.entries if e.family == family]
        for key, entries in _by_kernel(own).items():
            means[key][generation] = _mean_logs(entries)
    for of in means.values():
        for older, newer in combinations(sorted(of), 2):
            yield (of[newer] - of[older]) / (newer - older)


def log_spreads(relatives: Iterable[DeviceCalibration], kind: type[Any], family: str) -> dict[str, float]:
    """Standard deviation of each log-constant of a family between generations.

    The family's declared spread counts as two pairs of generations and bounds what is found to half and to
    twice itself.
    """
    specs = constant_specs(kind)
    declared = np.array([spec.log_sd for spec in specs])
    squares = [slope**2 for slope in _slopes(list(relatives), family)]
    total = _DECLARED_PAIRS * declared**2 + np.sum(squares, axis=0)
    found = np.sqrt(total / (_DECLARED_PAIRS + len(squares)))
    bounded = np.clip(found, declared / 2, 2 * declared).tolist()
    return dict(zip((spec.name for spec in specs), bounded, strict=True))


def lent(
    relatives: Iterable[DeviceCalibration],
    target: DeviceFigures,
    family: str,
    dtype: str,
    kernels: Sequence[str],
) -> Carried | None:
    """As `carried`, and where nobody has these kernels, of another kernel, then of a dtype that stands in."""
    known = list(relatives)
    for name in (dtype, *_STAND_INS.get(dtype, ())):
        of_dtype = {e.kernel for d in known for e in d.entries if (e.family, e.dtype) == (family, name)}
        usual = [kernel for kernel in ANY_MOE if kernel in of_dtype]
        order = dict.fromkeys((*kernels, *usual, *sorted(of_dtype)))
        for kernel in order:
            if found := carried(known, target, family, name, (kernel,)):
                return found
    return None
