"""A table of kernel shapes priced: rows of one family, dtype and fixed dimensions are one call.

A broken row is answered with its reason and the others are priced. Times are microseconds, as in the tables
of kernel timings that such a file is compared with.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError
from simulator.costs.calibration import Calibrations
from simulator.costs.estimates import BOUNDS
from simulator.costs.library import KernelLibrary
from simulator.costs.shape_families import FAMILIES, Row, call_key, read_shapes, row_problems, source_entry

COLUMNS = ("id", "measured", "predicted", "low", "high", "grade", "bound", "reason")


@dataclass(frozen=True)
class KernelAnswer:
    """One shape: measured and predicted microseconds, or the reason why there is no prediction."""

    id: str
    measured: float | None
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    grade: str = ""
    bound: str = ""
    reason: str = ""

    @property
    def error(self) -> float:
        """Predicted over measured, minus one; nan where either is missing."""
        if self.predicted is None or not self.measured:
            return math.nan
        return self.predicted / self.measured - 1


def price_shapes(
    path: Path, system: SystemSpec, backend: str, calibrations: Calibrations | None = None
) -> list[KernelAnswer]:
    """An answer for every row of the file, in its order.

    Raises:
        InputError: the file is missing or has no `id` or `family` column, or the backend is unknown.
    """
    rows = read_shapes(path)
    answers: dict[int, KernelAnswer] = {}
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        problems = [replace(problem, file=path.name, line=index + 2) for problem in row_problems(row)]
        if problems:
            answers[index] = KernelAnswer(row["id"], _measured(row), reason="; ".join(map(str, problems)))
        else:
            groups[call_key(row, backend)].append(index)
    named = {key[:2] for key in groups}
    libraries = {
        (engine, kernel): KernelLibrary(system, engine, calibrations, timed_kernel=kernel)
        for engine, kernel in named | {(backend, "")}
    }
    for (engine, kernel, *_), members in groups.items():
        priced = _price([rows[index] for index in members], libraries[engine, kernel])
        answers |= zip(members, priced, strict=True)
    return [answers[index] for index in range(len(rows))]


def _price(rows: Sequence[Row], library: KernelLibrary) -> list[KernelAnswer]:
    family = FAMILIES[rows[0]["family"]]
    try:
        estimate = family.estimate(library, rows)
    except InputError as error:
        return [KernelAnswer(row["id"], _measured(row), reason=str(error)) for row in rows]
    times_us = 1e6 * np.stack([estimate.latency_s, estimate.low_s, estimate.high_s], axis=-1)
    evidence = f"{library.backend}: {estimate.evidence}"
    priced = zip(rows, times_us.tolist(), estimate.bound.tolist(), strict=True)
    return [
        KernelAnswer(
            id=row["id"],
            measured=_measured(row),
            predicted=predicted,
            low=low,
            high=high,
            grade=estimate.grade.value,
            bound=BOUNDS[bound],
            reason="; ".join((evidence, *_assumed(row))),
        )
        for row, (predicted, low, high), bound in priced
    ]


def _assumed(row: Row) -> list[str]:
    """What the row left open and how it was filled."""
    source = row.get("kernel_source", "")
    unknown = source and source_entry(row) is None
    notes = [f"kernel_source {source} has no entry: the engine's own choice"] if unknown else []
    filled = {"moe": {"distribution": "balanced"}, "mla_decode": {"kv_dtype": row.get("dtype", "")}}
    choices = filled.get(row["family"], {})
    return notes + [f"{name} not stated: {value}" for name, value in choices.items() if not row.get(name)]


def _measured(row: Row) -> float | None:
    try:
        return float(row.get("latency_us", ""))
    except ValueError:
        return None
