"""Fits every stack's constants on calibration rows and writes `simulator/stacks/fitted.yaml`.

Order of fits: all rows of an engine around the global priors, then each version around its engine. Leave-one-
deployment-out refits give the half widths of the 90% intervals. Run `python -m simulator.measured.calibrate_stacks`;
it needs the measured data (`SILICAST_DATA`) and the extra `[fit]`.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware_specs.records.errors import InputError, Problem
from simulator.measured.fitted_file import FittedEntry, fitted_yaml
from simulator.measured.rows import MeasuredRow
from simulator.measured.serving_rows import DYNAMO, read_serving_file
from simulator.measured.stack_fit import PRIORS, Fit, Predict, fit_constants, log_errors
from simulator.prepared import prepare
from simulator.scenario.model import Workload
from simulator.serving.workload import Requests, generate
from simulator.stacks.library import load_stack
from simulator.step.constants import StackConstants

FloatArray = NDArray[np.float64]
Say = Callable[[str], None]

MADE_BY = "python -m simulator.measured.calibrate_stacks"
COVERAGE = 0.90
LEAST_ROWS = 6  # a version with fewer rows keeps its engine's constants
LEAST_HALF_WIDTHS = (0.08, 0.20)  # TPOT, TTFT: repeatability across images, and of TTFT
ENGINE_TIGHTNESS, VERSION_TIGHTNESS = 1.0, 1.5


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


def usable(row: MeasuredRow) -> bool:
    """Whether a row can be simulated at all."""
    try:
        predict_row(row, StackConstants())
    except Exception:  # any reason: it is reported by `validate`, not here
        return False
    return True


@dataclass(frozen=True)
class EngineFit:
    """Fits of one engine: over all its rows, and by version."""

    engine: Fit
    versions: Mapping[str, Fit]

    def constants(self, version: str) -> StackConstants:
        """The constants of a version, or of the engine where the version has none of its own."""
        return self.versions[version].constants if version in self.versions else self.engine.constants


def fit_engine(rows: Sequence[MeasuredRow], predict: Predict = predict_row) -> EngineFit:
    """The engine's constants and those of every version with enough rows."""
    start = StackConstants(**{name: prior.centre for name, prior in PRIORS.items()})
    engine = fit_constants(rows, predict, start, tightness=ENGINE_TIGHTNESS)
    versions: dict[str, Fit] = {}
    for version in sorted({version_of(row) for row in rows}):
        own = [row for row in rows if version_of(row) == version]
        if len(own) >= LEAST_ROWS:
            versions[version] = fit_constants(own, predict, engine.constants, tightness=VERSION_TIGHTNESS)
    return EngineFit(engine, versions)


def leave_one_deployment_out(
    rows: Sequence[MeasuredRow], say: Say = lambda text: None
) -> list[tuple[MeasuredRow, float, float]]:
    """(row, TTFT, TPOT) in ms of every row under constants fitted without its deployment."""
    answers: list[tuple[MeasuredRow, float, float]] = []
    for key in sorted({row.deployment_key for row in rows}):
        held_out = [row for row in rows if row.deployment_key == key]
        fit = fit_engine([row for row in rows if row.deployment_key != key])
        for row in held_out:
            ttft, tpot = predict_row(row, fit.constants(version_of(row)))
            answers.append((row, ttft, tpot))
        say(f"left out {key}: {len(held_out)} rows")
    return answers


def half_width(log_error: FloatArray, least: float) -> float:
    """The conformal half width of the 90% interval: the (n+1) 0.9 order statistic of |log error|."""
    ordered = np.sort(np.abs(log_error))
    rank = min(int(np.ceil((len(ordered) + 1) * COVERAGE)), len(ordered))
    return max(float(ordered[rank - 1]), least)


def calibration_rows(data: Path) -> list[MeasuredRow]:
    """The rows that fits may see: all that can be simulated, but for those behind another front end.

    Raises:
        InputError: the data is not there.
    """
    path = data / "measured" / "serving_calib.csv"
    if not path.is_file():
        raise InputError(Problem("calibration rows must exist; set SILICAST_DATA", file=str(path)))
    rows, _ = read_serving_file(path)
    return [row for row in rows if DYNAMO not in row.flags and usable(row)]


def data_folder() -> Path:
    """The folder of measured data: `SILICAST_DATA`, or `shared` beside the repository."""
    return Path(os.environ.get("SILICAST_DATA", Path(__file__).resolve().parents[3] / "shared"))


def engine_entries(backend: str, rows: Sequence[MeasuredRow], say: Say) -> tuple[list[FittedEntry], FloatArray]:
    """Entries of one engine, and the log TPOT errors of versions under the engine's own constants."""
    fit = fit_engine(rows)
    answers = leave_one_deployment_out(rows, say)
    tpot = np.array([np.log(p / r.figures["tpot_ms"]) for r, _, p in answers if "tpot_ms" in r.figures])
    ttft = np.array([np.log(p / r.figures["ttft_ms"]) for r, p, _ in answers if "ttft_ms" in r.figures])
    widths = [half_width(e, least) for e, least in zip((tpot, ttft), LEAST_HALF_WIDTHS, strict=True)]
    width_source = f"conformal over {len(answers)} rows, each deployment left out of its own fit"
    oldest = load_stack(backend, on="2000-01-01").release.version
    fits = dict(fit.versions)
    fits.setdefault(oldest, fit.engine)
    entries = [
        FittedEntry(
            backend=backend,
            version=version,
            constants=version_fit.constants,
            n_rows=version_fit.n_rows,
            source=f"MAP fit to {version_fit.n_rows} runs of serving_calib (aiconfigurator-core 0.12.0, Apache-2.0)",
            kind="fitted",
            tpot_log_half_width=widths[0],
            ttft_log_half_width=widths[1],
            width_source=width_source,
        )
        for version, version_fit in fits.items()
    ]
    spread, _ = log_errors(rows, predict_row, fit.engine.constants)
    return entries, spread


def main(say: Say = lambda text: print(text, file=sys.stderr)) -> int:
    """Refits everything and rewrites the file."""
    rows = calibration_rows(data_folder())
    entries: list[FittedEntry] = []
    spreads: list[FloatArray] = []
    for backend in sorted({row.scenario.deployment.stack for row in rows}):
        own = [row for row in rows if row.scenario.deployment.stack == backend]
        say(f"{backend}: {len(own)} rows")
        fitted, spread = engine_entries(backend, own, say)
        entries += fitted
        spreads.append(spread)
    spread = half_width(np.concatenate(spreads), LEAST_HALF_WIDTHS[0])
    source = "90% of |log TPOT error| of versions under their engine's common constants"
    text = fitted_yaml(entries, round(spread, 3), source, MADE_BY)
    target = Path(__file__).resolve().parents[1] / "stacks" / "fitted.yaml"
    partial = target.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    say(f"wrote {target.name}: {len(entries)} versions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
