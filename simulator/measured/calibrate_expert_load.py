"""Fits the exponent of the power law of rows over experts to measured serving runs.

Run `python -m simulator.measured.calibrate_expert_load`; it needs the measured data (`SILICAST_DATA`) and
prints `hardware_specs/calibrations/expert_load.yaml`. The exponent is the one under which errors of TPOT in
log space differ least inside a deployment (model, system, engine, precision): what a deployment's runs have
in common is for the stack's constants. The interval is that of deployments drawn anew, 500 times with a fixed
seed. The stacks' constants stay as they ship, which favours the exponent that they were fitted under.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hardware_specs.records.errors import exit_code_of
from model_graphs.configs import resolve_model
from simulator.costs.estimates import FloatArray
from simulator.costs.expert_load import FITTED_LAW
from simulator.measured.calibrate_stacks import calibration_rows, data_folder
from simulator.measured.rows import MeasuredRow
from simulator.measured.serving_rows import SPECULATION
from simulator.measured.validation import predict_rows

EXPONENTS = (0.4, 0.7, 0.85, 1.01, 1.1, 1.2, 1.5, 2.0)
_N_DRAWS = 500
_SEED = 0
_LEAST_RUNS = 4  # of a deployment, for its errors to have a spread
_FINE = np.linspace(EXPONENTS[0], EXPONENTS[-1], 200)


def expert_rows(rows: Sequence[MeasuredRow]) -> list[MeasuredRow]:
    """Runs of models with routed experts, without suspected speculation."""
    return [row for row in rows if SPECULATION not in row.flags and _has_experts(row)]


def _has_experts(row: MeasuredRow) -> bool:
    return resolve_model(row.scenario.deployment.model).blueprint.n_experts > 0


def spread_by_deployment(rows: Sequence[MeasuredRow], alpha: float) -> dict[str, FloatArray]:
    """|log TPOT error - the deployment's median| of every row, by deployment, under an exponent."""
    errors: dict[str, list[float]] = {}
    for answer in predict_rows([_under(row, f"{FITTED_LAW}_{alpha:g}") for row in rows]):
        if answer.metric == "tpot_ms" and answer.predicted and answer.measured:
            errors.setdefault(answer.group, []).append(float(np.log(answer.predicted / answer.measured)))
    return {
        key: np.abs(np.array(own) - np.median(own)) for key, own in errors.items() if len(own) >= _LEAST_RUNS
    }


def _under(row: MeasuredRow, law: str) -> MeasuredRow:
    deployment = row.scenario.deployment.model_copy(update={"expert_load": law})
    return replace(row, scenario=row.scenario.model_copy(update={"deployment": deployment}))


def best_exponent(losses: Sequence[float]) -> float:
    """The least of a spline through the losses at `EXPONENTS`."""
    from scipy.interpolate import CubicSpline

    return float(_FINE[np.argmin(CubicSpline(EXPONENTS, losses)(_FINE))])


def with_interval(spreads: Sequence[Mapping[str, FloatArray]]) -> tuple[float, float, float]:
    """The exponent, and the 5% and 95% points of those of deployments drawn anew; spreads as `EXPONENTS`."""
    deployments = sorted(spreads[0])
    sums = np.array([[own[key].sum() for key in deployments] for own in spreads])
    counts = np.array([len(spreads[0][key]) for key in deployments], float)
    rng = np.random.default_rng(_SEED)
    found = []
    for _ in range(_N_DRAWS):
        drawn = rng.integers(len(deployments), size=len(deployments))
        found.append(best_exponent(list(sums[:, drawn].sum(axis=1) / counts[drawn].sum())))
    best = best_exponent(list(sums.sum(axis=1) / counts.sum()))
    low, high = np.quantile(found, [0.05, 0.95])
    return best, float(min(low, best)), float(max(high, best))


def main(say: Callable[[str], None] = lambda text: print(text)) -> int:
    """Prints the file, after the loss at every exponent as a comment."""
    rows = expert_rows(calibration_rows(data_folder()))
    spreads = [spread_by_deployment(rows, alpha) for alpha in EXPONENTS]
    for alpha, own in zip(EXPONENTS, spreads, strict=True):
        say(f"# {alpha:g}: mean spread {np.concatenate(list(own.values())).mean():.4f}")
    n_rows = sum(map(len, spreads[0].values()))
    source = (
        f"python -m simulator.measured.calibrate_expert_load: {n_rows} runs of {len(spreads[0])} deployments "
        "with routed experts (calibration rows)"
    )
    say("schema_version: 1")
    for name, value in zip(("exponent", "low", "high"), with_interval(spreads), strict=True):
        say(f'{name}: {{value: {value:.2f}, unit: "1", source: "{source}", kind: fitted}}')
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
