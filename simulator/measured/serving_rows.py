"""Rows of `serving_*.csv` as scenarios: one pure function a row, every inference by a stated rule.

What a row does not state is filled from the rules below and named in `ServingRow.assumptions`; no rule looks at a
row's identifier.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hardware_specs.records.errors import InputError, Problem
from model_graphs.configs import resolve_model
from simulator.scenario.model import ClosedLoop, Deployment, Lengths, Scenario, Workload

#: lengths of the grid whose runs fit a client with fixed lengths (serving_model.md section 2, sources A and B)
_FIXED_GRIDS = (({1024, 2048, 4096}, {128, 256, 512}), ({1000, 2000, 4000, 8000}, {100, 200, 500, 1000, 2000}))
_PRECISION = {"fp8": "fp8", "fp4": "fp4", "nvfp4": "fp4", "bf16": "bf16", "bfloat16": "bf16", "mxfp4": "fp4"}
_NUMBERS = ("isl", "osl", "concurrency", "num_gpus")


@dataclass(frozen=True)
class ServingRow:
    """One measured run: identity, the scenario that reproduces it, what was measured, what was assumed."""

    id: str
    scenario: Scenario
    mode: str
    ttft_ms: float | None
    tpot_ms: float | None
    ttft_ok: bool
    assumptions: tuple[str, ...]
    model: str
    precision: str
    deployment_key: str


def read_serving_rows(path: Path) -> tuple[list[ServingRow], list[tuple[str, Problem]]]:
    """Every row that reads, and (id, problem) for every row that does not. File lines start at 2.

    Raises:
        InputError: the file is missing or lacks a column that every row needs.
    """
    if not path.is_file():
        raise InputError(Problem(file=str(path), requirement="measured file must exist"))
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        missing = {"id", "model_path", "system", "backend", "mode", *_NUMBERS} - set(reader.fieldnames or ())
        if missing:
            raise InputError(
                Problem(file=str(path), line=1, requirement=f"serving file needs columns {', '.join(sorted(missing))}")
            )
        rows: list[ServingRow] = []
        problems: list[tuple[str, Problem]] = []
        for record in reader:
            try:
                rows.append(serving_row(record))
            except InputError as error:
                problems.extend(
                    (record.get("id") or f"line {reader.line_num}", _located(p, path, reader.line_num))
                    for p in error.problems
                )
    return rows, problems


def _located(problem: Problem, path: Path, line: int) -> Problem:
    return Problem(
        requirement=problem.requirement,
        given=problem.given,
        file=str(path),
        line=line,
        path=problem.path,
        suggestion=problem.suggestion,
    )


def serving_row(record: Mapping[str, str]) -> ServingRow:
    """The scenario of one row.

    Raises:
        InputError: with every field of the row that is missing or broken.
    """
    numbers = _numbers(record, _NUMBERS if record["mode"] == "agg" else _NUMBERS[:2])
    model = resolve_model(record["model_path"])
    precision = _PRECISION.get(record.get("precision", ""), record.get("precision", "") or "fp8")
    deployment, assumed = _deployment(record, int(numbers.get("num_gpus", 1)), model.key, precision)
    isl, osl = int(numbers["isl"]), int(numbers["osl"])
    law = client_length_law(record.get("image", ""), isl, osl)
    workload = Workload(
        arrivals=ClosedLoop(concurrency=max(1, round(numbers.get("concurrency", 1)))),
        input_tokens=Lengths(law=law, mean=isl),
        output_tokens=Lengths(law=law, mean=osl),
    )
    return ServingRow(
        id=record["id"],
        scenario=Scenario(name=record["id"], deployment=deployment, workload=workload),
        mode=record["mode"],
        ttft_ms=_optional(record, "ttft_ms"),
        tpot_ms=_optional(record, "tpot_ms"),
        ttft_ok=record.get("ttft_ok", "True") == "True",
        assumptions=(*assumed, f"client lengths {law}"),
        model=model.key,
        precision=precision,
        deployment_key="|".join(
            str(x)
            for x in (
                "deepseek-v3" if model.key.startswith("deepseek") else model.key,
                deployment.system,
                deployment.stack,
                record["mode"],
                precision,
                deployment.tp,
                deployment.dp,
                deployment.ep,
            )
        ),
    )


def client_length_law(image: str, isl: int, osl: int) -> Literal["fixed", "uniform"]:
    """Fixed lengths for the grids that ran without a recorded image; else uniform in 0.8..1.0 of nominal."""
    on_grid = any(isl in inputs and osl in outputs for inputs, outputs in _FIXED_GRIDS)
    return "fixed" if on_grid and not image else "uniform"


def _deployment(
    record: Mapping[str, str], n_gpus: int, model: str, precision: str
) -> tuple[Deployment, tuple[str, ...]]:
    assumed: list[str] = []
    dp = int(_optional(record, "attention_dp") or 1)
    ep = int(_optional(record, "moe_ep") or 1)
    if not record.get("backend_version"):
        assumed.append(f"stack version: the newest before {record.get('measured') or 'today'}")
    tp = max(1, n_gpus // dp) if record["mode"] == "agg" else 1
    deployment = Deployment(
        model=model,
        system=record["system"],
        gpus=n_gpus,
        tp=tp,
        dp=dp,
        ep=ep,
        precision=precision,
        stack=record["backend"],  # type: ignore[arg-type] # pydantic refuses a backend that is not modelled
        stack_version=record.get("backend_version", ""),
        date=record.get("measured", ""),
    )
    return deployment, tuple(assumed)


def _numbers(record: Mapping[str, str], names: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    problems: list[Problem] = []
    for name in names:
        try:
            found[name] = float(record[name])
            if not found[name] > 0:
                raise ValueError
        except (ValueError, TypeError):
            problems.append(Problem(path=name, requirement="must be a positive number", given=repr(record.get(name))))
    if problems:
        raise InputError(*problems)
    return found


def _optional(record: Mapping[str, str], name: str) -> float | None:
    text = record.get(name) or ""
    try:
        return float(text) if text else None
    except ValueError:
        raise InputError(Problem(path=name, requirement="must be a number or empty", given=repr(text))) from None
