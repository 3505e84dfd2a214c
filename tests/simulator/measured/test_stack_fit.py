"""The fit of a stack's constants: it finds what made the data, stays near its prior, is honest on width."""

import math
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

pytest.importorskip("scipy", reason="fits need the extra [fit]")

from simulator.measured.calibrate_stacks import (
    COVERAGE,
    MADE_BY,
    fit_engine,
    half_width,
    label_of,
)
from simulator.measured.fitted_file import FittedEntry, fitted_yaml
from simulator.measured.rows import MeasuredRow
from simulator.measured.stack_fit import PRIORS, fit_constants, log_errors
from simulator.scenario.model import ClosedLoop, Deployment, Lengths, Scenario, Workload
from simulator.stacks.library import BACKENDS, fitted_file
from simulator.step.constants import StackConstants

HOPPER = "hopper"  # the architecture of h200_sxm
PRIOR = StackConstants(**{name: prior.centre for name, prior in PRIORS.items()})
TRUTH = replace(PRIOR, kernel_scale=1.15, host_per_sequence_s=20e-6, first_token_s=60e-3)


def closed_form(row, constants):
    """A stand-in for the simulator: TTFT and TPOT in ms as plain functions of the constants."""
    batch = row.scenario.workload.arrivals.concurrency
    step_s = constants.kernel_scale * (8e-3 + 0.2e-3 * batch) + 500 * constants.small_kernel_s
    step_s += constants.host_base_s + constants.host_per_sequence_s * batch
    prompt_s = row.scenario.workload.input_tokens.mean * 40e-6 * constants.prefill_scale
    ttft_s = constants.first_token_s + prompt_s + constants.stream_interval_steps * step_s
    return 1e3 * ttft_s, 1e3 * step_s


def row(concurrency, isl, version="0.5.9", truth=TRUTH):
    scenario = Scenario(
        name=f"{concurrency}-{isl}",
        deployment=Deployment(model="deepseek-r1", system="h200_sxm", stack="sglang", stack_version=version),
        workload=Workload(
            arrivals=ClosedLoop(concurrency=concurrency),
            input_tokens=Lengths(mean=isl),
            output_tokens=Lengths(mean=100),
        ),
    )
    bare = MeasuredRow(scenario.name, scenario, {}, "suite", (), "key")
    ttft, tpot = closed_form(bare, truth)
    return replace(bare, figures={"ttft_ms": ttft, "tpot_ms": tpot})


ROWS = [row(c, isl) for c in (1, 4, 16, 64, 128, 256) for isl in (256, 2048, 8192)]


def test_a_fit_reproduces_the_runs_that_made_it():
    fit = fit_constants(ROWS, closed_form, PRIOR, max_evaluations=40)
    # the priors hold what 18 rows cannot tell apart, so the fit is close and not exact
    assert np.abs(fit.tpot_log_error).max() < 0.05
    assert np.abs(fit.ttft_log_error).max() < 0.15
    assert fit.n_rows == len(ROWS)


def test_a_tight_prior_keeps_the_constants_near_their_centre():
    loose = fit_constants(ROWS, closed_form, PRIOR)
    tight = fit_constants(ROWS, closed_form, PRIOR, tightness=1e3)
    assert abs(math.log(tight.constants.kernel_scale)) < 0.01 < abs(math.log(loose.constants.kernel_scale))


def test_one_wild_row_does_not_carry_the_fit_away():
    wild = replace(ROWS[0], figures={key: 30 * value for key, value in ROWS[0].figures.items()})
    fit = fit_constants([wild, *ROWS[1:]], closed_form, PRIOR, max_evaluations=40)
    tpot, _ = log_errors(ROWS[1:], closed_form, fit.constants)
    assert np.median(np.abs(tpot)) < 0.03


def test_a_labelled_way_to_run_a_version_has_constants_of_its_own():
    faster = replace(TRUTH, kernel_scale=0.8)
    labelled = [row(c, 1024, "0.5.9+mtp", faster) for c in (1, 4, 16, 64, 128, 256)]
    fit = fit_engine([*ROWS, *labelled], closed_form)
    assert label_of("0.5.9+mtp") == "mtp"
    labelled_scale = fit.constants("0.5.9+mtp", HOPPER).kernel_scale
    assert labelled_scale < 0.95 < fit.constants("0.5.9", HOPPER).kernel_scale
    assert fit.constants("0.6.0+mtp", HOPPER) == fit.constants("0.5.9+mtp", HOPPER)


def test_the_scales_of_one_architecture_are_not_carried_to_another():
    fit = fit_engine(ROWS, closed_form)
    here, elsewhere = fit.constants("0.5.9", HOPPER), fit.constants("0.5.9", "blackwell")
    assert here.kernel_scale != PRIOR.kernel_scale
    assert elsewhere == replace(here, kernel_scale=PRIOR.kernel_scale, prefill_scale=PRIOR.prefill_scale)


def test_the_half_width_is_the_order_statistic_that_covers_a_new_row():
    errors = np.arange(1, 100) / 100  # 99 errors: the (99 + 1) 0.9 = 90th is 0.90
    assert half_width(errors, 0.0) == pytest.approx(COVERAGE)
    assert half_width(errors[:3], 0.0) == pytest.approx(0.03)
    assert half_width(np.zeros(50), 0.08) == 0.08


def test_the_file_written_is_the_file_read(tmp_path):
    from hardware_specs.records.yaml_reader import validate_file
    from simulator.stacks.model import FittedFile

    path = tmp_path / "fitted.yaml"
    entry = FittedEntry("vllm", "0.1.0", PRIOR, 0, (), "a test", "assumed", 0.5, 0.7, "a test")
    path.write_text(fitted_yaml([entry], 0.25, "a test", "pytest"))
    read = validate_file(FittedFile, path)
    for name in StackConstants.names():
        assert getattr(read.constants[0].plain(), name) == pytest.approx(getattr(PRIOR, name))
    assert read.version_spread_log_half_width.value == 0.25


def test_the_shipped_file_is_what_its_writer_writes():
    file = fitted_file()
    entries = [
        FittedEntry(
            backend=one.backend,
            version=one.version,
            constants=one.plain(),
            n_rows=one.n_rows,
            architectures=one.architectures,
            source=one.kernel_scale.source,
            kind=one.kernel_scale.kind.value,
            tpot_log_half_width=one.tpot_log_half_width.value,
            ttft_log_half_width=one.ttft_log_half_width.value,
            width_source=one.tpot_log_half_width.source,
        )
        for one in file.constants
    ]
    spread = file.version_spread_log_half_width
    shipped = (files("simulator.stacks") / "fitted.yaml").read_text(encoding="utf-8")
    assert fitted_yaml(entries, spread.value, spread.source, MADE_BY) == shipped


def test_every_engine_has_fitted_versions():
    assert {one.backend for one in fitted_file().constants if one.n_rows} == set(BACKENDS)
