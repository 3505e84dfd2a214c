"""What `silicast calibrate` does between its flags and its output: points from any file, fits, the YAML."""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from hardware_specs.library import load_system
from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.hashing import content_hash
from simulator.costs.calibration import Calibrations, shipped_calibrations
from simulator.costs.kernel_choice import check_backend
from simulator.measured.calibrate_device import Measured, calibration_text, fits
from simulator.measured.point_fit import MIN_POINTS, Draw, PointFit
from simulator.measured.point_groups import PointGroup

PACKAGE = "aiconfigurator-core"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Calibration:
    """The fits, the file's text, and what was left out on the way."""

    system: str
    source: str
    fits: tuple[PointFit, ...]
    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Points:
    groups: tuple[PointGroup, ...]
    measured: Measured
    notes: tuple[str, ...] = ()


def calibrate(args: argparse.Namespace, tick: Callable[[int, int], None] | None = None) -> Calibration:
    """The calibration that the flags of `silicast calibrate` ask for.

    Raises:
        InputError: with every problem found.
    """
    system = _checked_system(args)
    others = shipped_calibrations().without(system.device.key)
    points = _points(args, system, others)
    draw = Draw(args.points, args.seed) if args.points else None
    done = fits(points.groups, system, others, args.families, draw, tick)
    text = calibration_text(done, points.measured)
    return Calibration(system.device.key, points.measured.source, done, text, points.notes)


def _checked_system(args: argparse.Namespace) -> SystemSpec:
    problems: list[Problem] = []
    for check in (partial(load_system, args.system), partial(check_backend, args.stack)):
        try:
            check()
        except InputError as error:
            problems += error.problems
    if args.points is not None and args.points < MIN_POINTS:
        problems.append(Problem(f"must be at least {MIN_POINTS}", str(args.points), path="--points"))
    if args.measured_on and not _DATE.fullmatch(args.measured_on):
        problems.append(Problem("must be YYYY-MM-DD", args.measured_on, path="--measured-on"))
    if problems:
        raise InputError(*problems)
    return load_system(args.system)


def _points(args: argparse.Namespace, system: SystemSpec, others: Calibrations) -> _Points:
    if args.measured == PACKAGE or args.format == PACKAGE:
        return _package_points(args, system)
    path = Path(args.measured)
    if not path.is_file():
        raise InputError(Problem(f"measured file must exist, or be {PACKAGE}", str(path)))
    caches: Literal["cold", "warm"] = "warm" if args.warm else "cold"
    measured = Measured(path.name, content_hash(path), args.measured_on, caches)
    text = _text(path)
    form = args.format or form_of(text, path.name)
    if form == "csv":
        from simulator.measured.shape_points import csv_points

        return _Points(csv_points(path, system, args.stack, others, cold=not args.warm), measured)
    if form == "measure":
        from reports.measured_points import step_points

        return _Points(*step_points(text, path.name, system, args.stack, others, measured))
    from simulator.measured.kineto import kineto_points

    groups, notes = kineto_points(text, path.name, system, args.stack, others, cold=not args.warm)
    return _Points(groups, measured, notes)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem("must be text in UTF-8", str(error), str(path))) from error


def form_of(text: str, file: str) -> str:
    """The format of a file by its content: JSON with trace events or with a measured step, else a CSV.

    Raises:
        InputError: it is JSON and neither.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return "csv"
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(Problem("must be valid JSON", error.msg, file, error.lineno, error.colno)) from error
    keys = content.keys() if isinstance(content, dict) else {"traceEvents"}
    if "traceEvents" in keys:
        return "kineto"
    if {"subject", "spans"} <= keys:
        return "measure"
    raise InputError(
        Problem("must be a CSV, a trace of `silicast measure` or of a profiler", "other JSON", file)
    )


def _package_points(args: argparse.Namespace, system: SystemSpec) -> _Points:
    from simulator.measured.case_points import table_points
    from simulator.measured.silicon import EXPECTED_VERSION, tables_folder

    tables_folder()
    groups = table_points(system.device.key, frozenset(args.families))
    name = f"{PACKAGE} {EXPECTED_VERSION}"
    return _Points(groups, Measured(name, content_hash(name), args.measured_on, "warm"))
