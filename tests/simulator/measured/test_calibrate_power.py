"""Power constants: recovered where they are known, and those shipped are those of the command."""

from dataclasses import replace

import pytest

from hardware_specs.records.errors import InputError
from simulator.costs.energy import power_model
from simulator.measured.calibrate_power import PowerRun, fit_power, power_runs, work_rates
from simulator.prepared import prepare
from simulator.scenario.model import Deployment

pytest.importorskip("scipy", reason="fits need the extra [fit]")

RUN = PowerRun("hand made", "b200_sxm", 8, 8, "fp8", 16.0, 800.0, 700.0, 0.0)
RATES = [(1e12, 1e12), (2e12, 3e13), (3e12, 1e13), (1.5e12, 2e14)]  # bytes, FLOP a second


def test_known_constants_are_recovered():
    watts = [8 * (300 + 80e-12 * traffic + 1.2e-12 * flop) for traffic, flop in RATES]
    fit = fit_power([replace(RUN, power_w=w) for w in watts], RATES)
    assert (fit.active_w, fit.joules_per_byte, fit.joules_per_flop) == pytest.approx((300, 80e-12, 1.2e-12))
    assert fit.mean_error == pytest.approx(0, abs=1e-9)


def test_twice_the_tokens_a_second_is_twice_the_work_a_second():
    slow, fast = work_rates(RUN), work_rates(replace(RUN, output_tok_s=2 * RUN.output_tok_s))
    assert fast == pytest.approx((2 * slow[0], 2 * slow[1]))


def test_absent_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="SILICAST_DATA"):
        power_runs(tmp_path)


def test_the_shipped_constants_are_those_of_the_command(data_dir):
    runs = power_runs(data_dir)
    fit = fit_power(runs, [work_rates(run) for run in runs])
    device = prepare(Deployment(model="deepseek-r1", system="b200_sxm", gpus=8, tp=8)).system.device
    shipped = power_model(device)
    assert {run.system for run in runs} == {"b200_sxm"}
    assert shipped.active_w == pytest.approx(fit.active_w, abs=0.5)
    assert shipped.joules_per_byte == pytest.approx(fit.joules_per_byte, abs=0.5e-12)
    assert shipped.joules_per_flop == pytest.approx(fit.joules_per_flop, abs=0.005e-12)
