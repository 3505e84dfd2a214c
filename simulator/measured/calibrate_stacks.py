"""Fits every stack's constants on calibration rows and writes `simulator/stacks/fitted.yaml`.

Order of fits: all rows of an engine around the global priors, then each version on each architecture around
its engine. Refits without one deployment each give the half widths of the 90% intervals. Run `python -m
simulator.measured.calibrate_stacks`; it needs the measured data (`SILICAST_DATA`) and the extra `[fit]`.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError, Problem, SilicastError, exit_code_of
from simulator.measured.fitted_file import FittedEntry, fitted_yaml
from simulator.measured.fold_cache import Answer, kept_answers
from simulator.measured.rows import MeasuredRow
from simulator.measured.serving_rows import DYNAMO, read_serving_file
from simulator.measured.stack_fit import LABELLED_PRIORS, PRIORS, Fit, Predict, fit_constants, log_errors
from simulator.prepared import prepare
from simulator.scenario.model import Workload
from simulator.serving.workload import Requests, generate
from simulator.stacks.library import BACKENDS, load_stack
from simulator.step.constants import StackConstants

FloatArray = NDArray[np.float64]
Say = Callable[[str], None]
Place = tuple[str, str]  # version and architecture
Each = Callable[..., Iterable[Any]]  # `map`, or that of a pool of processes

MADE_BY = "python -m simulator.measured.calibrate_stacks"
COVERAGE = 0.90
LEAST_ROWS = 6  # a version with fewer rows keeps its engine's constants
LEAST_HALF_WIDTHS = (0.08, 0.20)  # TPOT, TTFT: repeatability across images, and of TTFT
VERSION_TIGHTNESS = 1.5  # priors of a version around its engine, against those of the engine
MAX_ROWS = 48  # of one fit, drawn evenly from its deployments
FOLD_ROWS = 24  # of a fit that leaves a deployment out
LABELLED_ROWS = 14  # rows of a labelled fit: most are lockstep runs of eight ranks, which take longer


def predict_row(row: MeasuredRow, constants: StackConstants) -> tuple[float, float]:
    """Mean TTFT and TPOT of a row's run under these constants, milliseconds."""
    scenario = row.scenario
    prepared = prepare(scenario.deployment)
    requests = _requests(scenario.workload)
    run = prepared.serve(constants, prepared.table(constants), requests, scenario.workload.seed)
    return float(run.requests.ttft_s.mean()) * 1e3, float(np.nanmean(run.requests.tpot_s)) * 1e3


@lru_cache(maxsize=512)
def _requests(workload: Workload) -> Requests:
    return generate(workload)


def version_of(row: MeasuredRow) -> str:
    """The version whose constants a row informs: the one it ran, or the newest before its date."""
    deployment = row.scenario.deployment
    stack = load_stack(deployment.stack, deployment.stack_version, deployment.date)
    return deployment.stack_version or stack.release.version


def architecture_of(row: MeasuredRow) -> str:
    """The architecture of the devices that a row ran on."""
    return load_system(row.scenario.deployment.system).device.architecture


def usable(row: MeasuredRow) -> bool:
    """Whether a row can be simulated: what it cannot, and why, `validate` says."""
    try:
        predict_row(row, StackConstants())
    except SilicastError:
        return False
    return True


@dataclass(frozen=True)
class VersionFit:
    """The fit of one version on the architectures of its rows."""

    version: str
    architectures: tuple[str, ...]
    fit: Fit


@dataclass(frozen=True)
class EngineFit:
    """Fits of one engine: over all its plain rows, and by version and architecture."""

    engine: Fit
    versions: tuple[VersionFit, ...]

    def constants(self, version: str, architecture: str) -> StackConstants:
        """The constants of a version on an architecture, else of another version there.

        Where the engine has no fit on the architecture those of another one hold, but for the scales: these
        are about kernels that it runs elsewhere.
        """
        alike = [v for v in self.versions if label_of(v.version) == label_of(version)]
        here = [v for v in alike if architecture in v.architectures]
        if version not in {v.version for v in here} and version in {v.version for v in alike}:
            here = []
        known = here or alike
        same = [v.fit for v in known if v.version == version] or [v.fit for v in known] or [self.engine]
        if here:
            return same[0].constants
        scales = {name: PRIORS[name].centre for name in ("kernel_scale", "prefill_scale")}
        return replace(same[0].constants, **scales)


def fit_engine(
    rows: Sequence[MeasuredRow],
    predict: Predict = predict_row,
    wanted: Collection[Place] | None = None,
    max_rows: int = MAX_ROWS,
    each: Each = map,
) -> EngineFit:
    """The engine's constants, and those of every version on every architecture with enough rows.

    With `wanted`, fits of other versions are left out where each of these has rows enough of its own.
    Rows of a labelled way to run a version (`+mtp`) inform that label's constants only, one set a label.
    """
    start = StackConstants(**{name: prior.centre for name, prior in PRIORS.items()})
    plain = [row for row in rows if not label_of(version_of(row))]
    engine = (
        fit_constants(plain, predict, start, max_rows=max_rows)
        if plain
        else Fit(start, 0, np.zeros(0), np.zeros(0))
    )
    groups: dict[tuple[str, str], list[MeasuredRow]] = {}
    for row in plain:
        groups.setdefault((version_of(row), architecture_of(row)), []).append(row)
    enough = {place: own for place, own in groups.items() if len(own) >= LEAST_ROWS}
    if wanted is not None and set(wanted) <= enough.keys():
        enough = {place: own for place, own in enough.items() if place in wanted}
    asked = [(place, own, predict, engine.constants, max_rows) for place, own in sorted(enough.items())]
    fits = list(each(_version_fit, asked))
    for label in sorted({label_of(version_of(row)) for row in rows} - {""}):
        fits += _labelled_fits([row for row in rows if label_of(version_of(row)) == label], predict, engine)
    return EngineFit(engine, tuple(fits))


def _version_fit(
    asked: tuple[Place, Sequence[MeasuredRow], Predict, StackConstants, int],
) -> VersionFit:
    """The fit of one version on one architecture, around its engine's constants."""
    (version, architecture), own, predict, centre, max_rows = asked
    fit = fit_constants(own, predict, centre, tightness=VERSION_TIGHTNESS, max_rows=max_rows)
    return VersionFit(version, (architecture,), fit)


def _labelled_fits(rows: Sequence[MeasuredRow], predict: Predict, engine: Fit) -> list[VersionFit]:
    """One fit of a label's rows, for each version that carries it."""
    centre = replace(engine.constants, kernel_scale=LABELLED_PRIORS["kernel_scale"].centre)
    fit = fit_constants(rows, predict, centre, priors=LABELLED_PRIORS, max_rows=LABELLED_ROWS)
    architectures = tuple(sorted({architecture_of(row) for row in rows}))
    return [VersionFit(version, architectures, fit) for version in sorted({version_of(row) for row in rows})]


def leave_one_deployment_out(
    rows: Sequence[MeasuredRow], say: Say = lambda text: None
) -> list[tuple[MeasuredRow, float, float]]:
    """(row, TTFT, TPOT) in ms of every row under constants fitted without its deployment.

    Folds run side by side, one process a core; the answers do not depend on how many, and are kept.
    """
    return kept_answers(rows, lambda: _all_folds(rows, say))


def _all_folds(rows: Sequence[MeasuredRow], say: Say) -> list[Answer]:
    keys = sorted({row.deployment_key for row in rows})
    answers: list[Answer] = []
    with ProcessPoolExecutor() as pool:
        for key, fold in zip(keys, pool.map(_fold, repeat(tuple(rows)), keys), strict=True):
            answers += fold
            say(f"left out {key}: {len(fold)} rows")
    return answers


def _fold(rows: Sequence[MeasuredRow], key: str) -> list[tuple[MeasuredRow, float, float]]:
    """The rows of one deployment, predicted by a fit to all others."""
    held_out = [row for row in rows if row.deployment_key == key]
    wanted = {(version_of(row), architecture_of(row)) for row in held_out}
    kept = [row for row in rows if row.deployment_key != key]
    fit = fit_engine(kept, wanted=wanted, max_rows=FOLD_ROWS)
    return [
        (row, *predict_row(row, fit.constants(version_of(row), architecture_of(row)))) for row in held_out
    ]


def half_width(log_error: FloatArray, least: float) -> float:
    """The conformal half width of the 90% interval: the (n+1) 0.9 order statistic of |log error|."""
    ordered = np.sort(np.abs(log_error))
    rank = min(int(np.ceil((len(ordered) + 1) * COVERAGE)), len(ordered))
    return max(float(ordered[rank - 1]), least)


def measured_file(data: Path, name: str) -> Path:
    """The file `measured/NAME.csv` below `data`.

    Raises:
        InputError: it is not there.
    """
    path = data / "measured" / f"{name}.csv"
    if not path.is_file():
        raise InputError(Problem("measured rows must exist; set SILICAST_DATA", file=str(path)))
    return path


def calibration_rows(data: Path) -> list[MeasuredRow]:
    """The rows that fits may see: all that can be simulated, but for those behind another front end.

    Raises:
        InputError: the data is not there.
    """
    rows, _ = read_serving_file(measured_file(data, "serving_calib"))
    return [row for row in rows if DYNAMO not in row.flags and usable(row)]


def data_folder() -> Path:
    """The folder of measured data: `SILICAST_DATA`, or `shared` beside the repository."""
    return Path(os.environ.get("SILICAST_DATA", Path(__file__).resolve().parents[3] / "shared"))


def engine_entries(
    backend: str, rows: Sequence[MeasuredRow], say: Say
) -> tuple[list[FittedEntry], FloatArray]:
    """Entries of one engine, and the log TPOT errors of its plain rows under its common constants."""
    with ProcessPoolExecutor() as pool:
        fit = fit_engine(rows, each=pool.map)
    widths = _half_widths(leave_one_deployment_out(rows, say))
    entries = [
        _entry(backend, own, widths[label_of(own.version)])
        for own in sorted(fit.versions, key=lambda own: (own.version, own.architectures))
    ]
    plain = [row for row in rows if not label_of(version_of(row))]
    return entries, log_errors(plain, predict_row, fit.engine.constants)[0]


def label_of(version: str) -> str:
    """The local label of a version, such as `mtp`; empty where it has none."""
    return version.partition("+")[2]


def _half_widths(answers: Sequence[tuple[MeasuredRow, float, float]]) -> dict[str, tuple[float, float, int]]:
    """(TPOT, TTFT, rows) by label: conformal half widths of rows that their fit did not see."""
    widths: dict[str, tuple[float, float, int]] = {}
    for label in {label_of(version_of(row)) for row, _, _ in answers}:
        own = [a for a in answers if label_of(version_of(a[0])) == label]
        tpot = np.array([np.log(p / r.figures["tpot_ms"]) for r, _, p in own if "tpot_ms" in r.figures])
        ttft = np.array([np.log(p / r.figures["ttft_ms"]) for r, p, _ in own if "ttft_ms" in r.figures])
        least_tpot, least_ttft = LEAST_HALF_WIDTHS
        widths[label] = half_width(tpot, least_tpot), half_width(ttft, least_ttft), len(own)
    return widths


def _entry(backend: str, own: VersionFit, widths: tuple[float, float, int]) -> FittedEntry:
    runs = f"{own.fit.n_rows} runs of serving_calib (aiconfigurator-core 0.12.0, Apache-2.0)"
    return FittedEntry(
        backend=backend,
        version=own.version,
        constants=own.fit.constants,
        n_rows=own.fit.n_rows,
        architectures=own.architectures,
        source=f"MAP fit to {runs}",
        kind="fitted",
        tpot_log_half_width=widths[0],
        ttft_log_half_width=widths[1],
        width_source=f"conformal over {widths[2]} rows, each deployment left out of its own fit",
    )


def main(say: Say = lambda text: print(text, file=sys.stderr)) -> int:
    """Refits everything and rewrites the file."""
    rows = calibration_rows(data_folder())
    entries: list[FittedEntry] = []
    spreads: list[FloatArray] = []
    for backend in BACKENDS:
        own = [row for row in rows if row.scenario.deployment.stack == backend]
        say(f"{backend}: {len(own)} rows")
        if not own:
            raise InputError(Problem("an engine must have runs that can be fitted", backend, path="backend"))
        fitted, spread = engine_entries(backend, own, say)
        entries += fitted
        spreads.append(spread)
    version_spread = half_width(np.concatenate(spreads), LEAST_HALF_WIDTHS[0])
    source = "90% of |log TPOT error| of versions under their engine's common constants"
    text = fitted_yaml(entries, round(version_spread, 3), source, MADE_BY)
    target = Path(__file__).resolve().parents[1] / "stacks" / "fitted.yaml"
    partial = target.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    say(f"wrote {target.name}: {len(entries)} versions")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
