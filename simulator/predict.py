"""From a scenario to a forecast: the same arrivals served under three clocks, every metric with its interval.

The middle clock gives the values. The slow and the fast clock are the 90% quantiles of the error that steps of this
stack share; a metric's interval is the wider of what they move it by and of what unseen runs of the stack earned.
"""

from collections.abc import Callable, Mapping
from math import exp, log

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.evidence import Estimate, Grade, worst
from hardware_specs.records.hashing import content_hash
from model_graphs.runs.records import ServingRun
from simulator.economics import cost_metrics
from simulator.energy import serving_energy
from simulator.forecast import Assumption, Forecast
from simulator.ledger import assumptions_of, versions
from simulator.prepared import Prepared, prepare
from simulator.scenario.model import Scenario
from simulator.serving.metrics import serving_metrics, unit_of
from simulator.serving.workload import generate
from simulator.step.table import StepTable

Progress = Callable[[int, int], None]

_RUNS = ("expected", "fast", "slow")
_PROMPT_METRICS = ("ttft",)  # their spread is that of TTFT; everything else moves with TPOT


def forecast(scenario: Scenario, *, progress: Progress | None = None) -> Forecast:
    """The forecast of a scenario.

    Raises:
        InputError: a name, width or dtype of the deployment is wrong, or a request can never run.
        DoesNotFitError: the model does not fit the memory of its devices.
    """
    prepared = prepare(scenario.deployment)
    requests = generate(scenario.workload)
    constants = prepared.stack.constants.plain()
    table = prepared.table(constants)
    width = step_log_half_width(prepared)
    runs: dict[str, ServingRun] = {}
    for i, (name, factor) in enumerate(zip(_RUNS, (1.0, exp(-width), exp(width)), strict=True)):
        runs[name] = prepared.serve(constants, table.scaled(factor), requests, scenario.workload.seed)
        if progress is not None:
            progress(i + 1, len(_RUNS))
    grade = worst(prepared.stack.grade, prepared.components.grade, *_input_grades(scenario))
    metrics = _estimates(prepared, runs, grade)
    metrics |= serving_energy(prepared, runs["expected"], grade)
    metrics |= cost_metrics(scenario, metrics, grade)
    return Forecast(
        scenario=scenario,
        metrics=dict(sorted(metrics.items())),
        memory=prepared.memory,
        run=runs["expected"],
        binding=binding_resource(prepared, runs["expected"], table),
        step_breakdown=step_breakdown(prepared, runs["expected"], table),
        assumptions=(*assumptions_of(prepared, scenario), *_run_assumptions(width)),
        input_hash=content_hash(
            scenario.model_dump(mode="json"),
            prepared.system.content_hash,
            prepared.model.content_hash,
            prepared.stack.content_hash,
        ),
        versions=versions(prepared),
    )
