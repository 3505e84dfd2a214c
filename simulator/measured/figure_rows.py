"""Rows of `figures_*.csv` as serving scenarios, from their typed columns. First form: LLM loads.

One row is one figure. What cannot be answered says why: another kind of scenario, a load that the row does
not describe, or a field that it lacks.
"""

from collections.abc import Callable
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem
from model_graphs.configs import resolve_model
from simulator.measured.rows import Fields, MeasuredRow, Record, UnansweredRow, read_rows
from simulator.measured.serving_rows import deployment_key
from simulator.scenario.model import (
    Arrivals,
    Burst,
    ClosedLoop,
    Deployment,
    Lengths,
    Poisson,
    Scenario,
    Workload,
)
from simulator.stacks.library import BACKENDS

REQUIRED = {
    "id",
    "metric",
    "value",
    "suite",
    "scenario_kind",
    "load_kind",
    "model_key",
    "system_key",
    "answerable",
}
_PRECISIONS = {"fp8": "fp8", "fp4": "fp4", "bf16": "bf16"}


def read_figures_file(path: Path) -> tuple[list[MeasuredRow], list[UnansweredRow]]:
    """Every row that names a serving scenario, and the reason for every other row."""
    return read_rows(path, REQUIRED, figure_row, lambda record: (record["metric"],))


def figure_row(record: Record) -> MeasuredRow:
    """The scenario of one row.

    Raises:
        InputError: with everything that keeps the row from being answered.
    """
    if record["answerable"] != "yes":
        raise InputError(Problem(f"row states no single scenario ({record['answerable']})"))
    if record["scenario_kind"] != "llm":
        raise InputError(Problem("only serving of language models is modelled", record["scenario_kind"]))
    if record["load_kind"] not in _LOADS:
        known = ", ".join(sorted(_LOADS))
        raise InputError(Problem(f"load_kind must be one of {known}", record["load_kind"], path="load_kind"))
    fields = Fields(record)
    backend = fields.choice("stack", dict(zip(BACKENDS, BACKENDS, strict=True)))
    precision = fields.choice("precision_weights", _PRECISIONS)
    isl, osl = int(fields.positive("isl_tokens")), int(fields.positive("osl_tokens"))
    arrivals = _LOADS[record["load_kind"]](fields)
    tp, pp, dp = (int(fields.positive(name, 1)) for name in ("tp", "pp", "dp"))
    ep, replicas = int(fields.positive("ep", 1)), int(fields.positive("replicas", 1))
    value = fields.positive("value")
    fields.done()
    deployment = Deployment(
        model=resolve_model(record["model_key"]).key,
        system=record["system_key"],
        gpus=tp * pp * dp * replicas,
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        precision=precision,
        kv_dtype=record.get("precision_kv", "") or "auto",
        stack=backend,
        stack_version=record.get("stack_version", ""),
    )
    workload = Workload(
        arrivals=arrivals,
        input_tokens=Lengths(law="fixed", mean=isl),
        output_tokens=Lengths(law="fixed", mean=osl),
    )
    return MeasuredRow(
        id=record["id"],
        scenario=Scenario(name=record["id"], deployment=deployment, workload=workload),
        figures={record["metric"]: value},
        suite=record["suite"],
        assumptions=("client lengths fixed",),
        deployment_key=deployment_key(deployment),
    )


def _closed_loop(fields: Fields) -> Arrivals:
    requests = fields.optional("num_requests")
    return ClosedLoop(
        concurrency=int(fields.positive("concurrency")), requests=int(requests) if requests else None
    )


def _burst(fields: Fields) -> Arrivals:
    return Burst(requests=int(fields.positive("num_requests", fields.optional("concurrency"))))


def _poisson(fields: Fields) -> Arrivals:
    requests = fields.optional("num_requests")
    rate = fields.positive("arrival_rate_rps")
    return Poisson(rate_per_s=rate, requests=int(requests) if requests else 1000)


_LOADS: dict[str, Callable[[Fields], Arrivals]] = {
    "closed_loop": _closed_loop,
    "burst": _burst,
    "open_poisson": _poisson,
}
