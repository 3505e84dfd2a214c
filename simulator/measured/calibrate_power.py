"""Fits the power of a device to whole runs with measured watts.

Run `python -m simulator.measured.calibrate_power`; it needs the measured data (`SILICAST_DATA`) and the extra
`[fit]`. It prints active watts, joules a byte and joules a FLOP for `hardware_specs/calibrations/power.yaml`:
weighted non-negative least squares on relative errors. Work comes from the rank-local graphs and time from
the run itself, so no latency model is in it.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware_specs.records.errors import exit_code_of
from simulator.measured.calibrate_stacks import data_folder, measured_file
from simulator.prepared import Prepared, prepare
from simulator.scenario.model import Deployment
from simulator.step.pricing import graph_work

PROMPT_TOKENS = 250.0  # not published for these tasks: short questions
_BATCH = re.compile(r"avg_batch_size=([\d.]+)")


@dataclass(frozen=True)
class PowerRun:
    """A steady run of one replica: mean batch, output tokens a request and a second, watts of all devices."""

    id: str
    system: str
    tp: int
    ep: int
    precision: str
    batch: float
    output_tokens: float
    output_tok_s: float
    power_w: float


@dataclass(frozen=True)
class PowerFit:
    """Watts, J/B and J/FLOP of one device, and the mean absolute relative error that they leave."""

    active_w: float
    joules_per_byte: float
    joules_per_flop: float
    mean_error: float
    n_runs: int


def power_runs(data: Path) -> list[PowerRun]:
    """DeepSeek runs of the ML.ENERGY benchmark in the calibration file.

    Raises:
        InputError: the file is not there.
    """
    figures: dict[str, dict[str, str]] = {}
    rows: dict[str, dict[str, str]] = {}
    with measured_file(data, "figures_calib").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["id"].startswith("mle3-") and "deepseek" in row["model"].lower():
                run = row["id"].rsplit("-", 1)[0]
                figures.setdefault(run, {})[row["metric"]] = row["value"]
                rows[run] = row
    complete = (run for run, own in figures.items() if {"power_w", "output_tok_s"} <= own.keys())
    return [_run(run, rows[run], figures[run]) for run in sorted(complete)]


def _run(run: str, row: dict[str, str], figures: dict[str, str]) -> PowerRun:
    batch = _BATCH.search(row["notes"])
    return PowerRun(
        id=run,
        system=row["system"],
        tp=int(float(row["tp"])),
        ep=int(float(row["ep"])),
        precision=row["precision"],
        batch=float(batch[1]) if batch else float(row["concurrency_or_batch"]),
        output_tokens=float(row["osl"]),
        output_tok_s=float(figures["output_tok_s"]),
        power_w=float(figures["power_w"]),
    )


def work_rates(run: PowerRun) -> tuple[float, float]:
    """(bytes, FLOP) a second on one device: decode steps, and prompts that ride in them and add FLOP."""
    prepared = _prepared(run)
    context = PROMPT_TOKENS + run.output_tokens / 2
    decode = graph_work(prepared.graphs["decode"], {"B": run.batch, "S": 1.0, "T": context}, run.batch)
    prompt = graph_work(prepared.graphs["prefill"], {"B": 1.0, "S": PROMPT_TOKENS, "T": 0.0}, 1.0)
    step_s = run.batch / run.output_tok_s
    prompts_a_step = run.batch / run.output_tokens
    return decode.traffic_bytes / step_s, (decode.flop + prompts_a_step * prompt.flop) / step_s


def fit_power(runs: Sequence[PowerRun], rates: Iterable[tuple[float, float]]) -> PowerFit:
    """The constants that leave the least squared relative error on the watts of one device."""
    from scipy.optimize import nnls

    watts = np.array([run.power_w / run.tp for run in runs])
    terms = np.array([(1.0, traffic, flop) for traffic, flop in rates])
    scale = terms.max(axis=0)
    solution, _ = nnls(terms / scale / watts[:, None], np.ones_like(watts))
    constants = solution / scale
    error = np.abs(terms @ constants / watts - 1)
    active_w, per_byte, per_flop = map(float, constants)
    return PowerFit(active_w, per_byte, per_flop, float(error.mean()), len(runs))


def _prepared(run: PowerRun) -> Prepared:
    return prepare(
        Deployment(
            model="deepseek-v3.1",
            system=run.system,
            gpus=run.tp,
            tp=run.tp,
            ep=run.ep,
            precision=run.precision,
            stack="vllm",
        )
    )


def main(say: Callable[[str], None] = lambda text: print(text)) -> int:
    """Prints the fit of every device that has runs."""
    runs = power_runs(data_folder())
    for system in sorted({run.system for run in runs}):
        own = [run for run in runs if run.system == system]
        fit = fit_power(own, map(work_rates, own))
        say(
            f"{system}: {fit.active_w:.0f} W + {fit.joules_per_byte * 1e12:.0f} pJ/B + "
            f"{fit.joules_per_flop * 1e12:.2f} pJ/FLOP; {fit.n_runs} runs, mean error {fit.mean_error:.1%}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
