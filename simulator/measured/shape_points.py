"""Measured kernel shapes as groups of points: a CSV with the columns of `silicast kernels` and latency_us."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem
from simulator.costs.calibration import Calibrations
from simulator.costs.estimates import FloatArray, KernelEstimate
from simulator.costs.kernel_sources import SourceEntry
from simulator.costs.library import KernelLibrary
from simulator.costs.shape_families import FAMILIES, Row, call_key, read_shapes, row_problems, source_entry
from simulator.measured.point_groups import Asking, CallBatch, Index, PointGroup, grouped

#: columns that stay the same along a sweep
_SITE = {
    "gemm": ("n", "k"),
    "mla_prefill": ("heads",),
    "mla_decode": ("heads",),
    "attention_prefill": ("heads", "kv_heads", "head_dim", "window"),
    "attention_decode": ("heads", "kv_heads", "head_dim", "window"),
    "moe": ("hidden", "inter", "topk", "experts"),
    "collective": ("num_ranks",),
}
_MICROSECOND = 1e-6


def csv_points(
    path: Path, system: SystemSpec, stack: str, calibrations: Calibrations, *, cold: bool
) -> tuple[PointGroup, ...]:
    """The points of a CSV file.

    Raises:
        InputError: every row that is wrong, with its line.
    """
    rows = read_shapes(path, ("family", "latency_us"))
    if not rows:
        raise InputError(Problem("must hold a row at least", file=path.name, line=1))
    lines = list(range(2, len(rows) + 2))
    return row_points(rows, lines, path.name, system, stack, calibrations, cold=cold)


def row_points(
    rows: Sequence[Row],
    lines: Sequence[int],
    file: str,
    system: SystemSpec,
    stack: str,
    calibrations: Calibrations,
    *,
    cold: bool,
) -> tuple[PointGroup, ...]:
    """The points of rows of text; repeats of a call are one point, at their median.

    Raises:
        InputError: every row that is wrong, with its line.
    """
    asking = Asking(system, calibrations)
    problems: list[Problem] = []
    batches = defaultdict(list)
    for row, line in zip(rows, lines, strict=True):
        wrong = row_problems(row) + _latency_problems(row) + _source_problems(row)
        if not wrong:
            engine, kernel, *fixed = call_key(row, stack)
            runs = SourceEntry(engine, kernel)
            try:
                asked = asking.of(runs, _scalar(row, cold=cold))
            except InputError as error:
                wrong = list(error.problems)
            else:
                batches[runs, tuple(fixed), asked].append(row)
        problems += [replace(problem, file=file, line=line) for problem in wrong]
    if problems:
        raise InputError(*problems)
    made = ((asked, _batch(runs, members, cold=cold)) for (runs, _, asked), members in batches.items())
    return grouped(system, calibrations, made)


def _scalar(row: Row, *, cold: bool) -> Callable[[KernelLibrary], KernelEstimate]:
    return lambda library: FAMILIES[row["family"]].estimate(library, [row], cold=cold)


def _latency_problems(row: Row) -> list[Problem]:
    text = row.get("latency_us", "")
    try:
        good = 0 < float(text) < inf
    except ValueError:
        good = False
    return [] if good else [Problem("must be a number above 0, microseconds", repr(text), path="latency_us")]


def _source_problems(row: Row) -> list[Problem]:
    name = row.get("kernel_source", "")
    if not name or row["family"] not in FAMILIES or source_entry(row):
        return []
    requirement = "must be empty (the stack's own kernel) or a name that the kernel tables have for the dtype"
    return [Problem(requirement, name, path="kernel_source")]


def _batch(runs: SourceEntry, rows: Sequence[Row], *, cold: bool) -> CallBatch:
    family = FAMILIES[rows[0]["family"]]
    repeats: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        repeats[tuple(row.get(name, "") for name in (*family.varied, *family.fixed))].append(row)
    calls = [same[0] for same in repeats.values()]
    medians = [np.median([float(row["latency_us"]) for row in same]) for same in repeats.values()]

    def price(library: KernelLibrary, index: Index) -> FloatArray:
        return family.estimate(library, [calls[i] for i in index.tolist()], cold=cold).latency_s

    sites = tuple(_site(row) for row in calls)
    return CallBatch(runs, _MICROSECOND * np.array(medians), sites, price)


def _site(row: Row) -> str:
    return ",".join(str(int(float(row.get(name) or 0))) for name in _SITE[row["family"]])
