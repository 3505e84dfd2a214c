"""From measured points to a calibration file of one device: what is fitted, what is refused, the YAML."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import yaml

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem, nearest
from simulator.costs.calibration import CONSTANTS_OF_FAMILY, SCHEMA_VERSION, Calibrations
from simulator.costs.figures import DeviceFigures
from simulator.measured.point_fit import ENOUGH_POINTS, MIN_POINTS, Draw, PointFit
from simulator.measured.point_groups import PointGroup

Progress = Callable[[int, int], None]
#: not fitted unless named: a reference's small kernels are not those of a serving engine
_UNASKED = frozenset({"bandwidth"})


@dataclass(frozen=True)
class Measured:
    """Where points came from, for the file's provenance."""

    name: str
    content_hash: str
    measured_on: str = ""
    caches: Literal["cold", "warm"] = "cold"

    @property
    def source(self) -> str:
        """One line for every entry."""
        when = f" of {self.measured_on}" if self.measured_on else ""
        return f"{self.name}{when}, content {self.content_hash}"


def fits(
    groups: Iterable[PointGroup],
    system: SystemSpec,
    others: Calibrations,
    families: Sequence[str] = (),
    draw: Draw | None = None,
    progress: Progress | None = None,
) -> tuple[PointFit, ...]:
    """The fit of every group of these families (none named: all that the points have).

    With a `draw` only some points of each group are fitted, and the others show how well that does.

    Raises:
        InputError: a family is unknown or has no points, or a group has too few; all of them at once.
    """
    found = tuple(groups)
    wanted = set(families) or {group.family for group in found} - _UNASKED
    chosen = [group for group in found if group.family in wanted]
    _check(chosen, wanted)
    device = DeviceFigures.from_system(system)
    done = []
    for i, group in enumerate(chosen):
        fit = PointFit(group, device, others, draw)
        fit.unseen.half_width()  # the work of the fit, while the bar moves
        done.append(fit)
        if progress is not None:
            progress(i + 1, len(chosen))
    return tuple(done)


def _check(chosen: Sequence[PointGroup], wanted: set[str]) -> None:
    problems = [
        Problem(
            f"family must be one of {', '.join(CONSTANTS_OF_FAMILY)}",
            name,
            path="families",
            suggestion=nearest(name, CONSTANTS_OF_FAMILY),
        )
        for name in sorted(wanted - CONSTANTS_OF_FAMILY.keys())
    ]
    having = {group.family for group in chosen}
    problems += [
        Problem(f"the file must have points of the family: {MIN_POINTS} at least", "none", path=name)
        for name in sorted((wanted & CONSTANTS_OF_FAMILY.keys()) - having)
    ]
    requirement = f"needs {MIN_POINTS} points at least, and {ENOUGH_POINTS} to be sure of"
    problems += [
        Problem(requirement, f"{len(group)}: {MIN_POINTS - len(group)} more are needed", path=group.label)
        for group in chosen
        if len(group) < MIN_POINTS
    ]
    if not chosen and not problems:
        problems = [Problem("must hold calls of a kernel family that has constants", "none")]
    if problems:
        raise InputError(*problems)


def figures_as_written(device: DeviceFigures) -> dict[str, str | float]:
    """The datasheet figures that formulas read, as calibration files record them."""
    return {
        "n_sm": device.n_sm,
        "clock": f"{device.clock_hz / 1e9:.6g} GHz",
        "l2": f"{device.l2_bytes / 1e6:.6g} MB",
        "bandwidth": f"{device.bandwidth_bytes_per_s / 1e12:.6g} TB/s",
        "scale_up_link": f"{device.scale_up_bytes_per_s / 1e9:.6g} GB/s",
    }


def calibration_text(done: Sequence[PointFit], measured: Measured) -> str:
    """The calibration file; the same points give the same bytes."""
    device = done[0].device
    document: Mapping[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "device": device.key,
        "architecture": device.architecture,
        "figures": figures_as_written(device),
        "provenance": {
            "made_by": "silicast calibrate",
            "measured": measured.name,
            "content_hash": measured.content_hash,
            "measured_on": measured.measured_on,
            "caches": measured.caches,
        },
        "entries": [fit.entry(measured.source) for fit in done],
    }
    header = (
        f"# Kernel constants of {device.key}; use them with --calibration of kernels, step and simulate.\n"
        "# errors: mean absolute, as fractions; log_half_width: of the 90% interval, conformal on folds.\n"
    )
    return header + yaml.safe_dump(document, sort_keys=False, width=110)
