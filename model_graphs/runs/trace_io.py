"""Measured steps as JSON files: a head, then one span a line; the same content is always the same bytes.

A file of another schema version, with a key that is not known, or whose spans do not hold together is refused
with its name and the path inside it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.wording import path_text
from model_graphs.runs.measurement import (
    SCHEMA_VERSION,
    EnergyReading,
    Machine,
    MeasuredStep,
    Protocol,
    Spread,
    Subject,
    measured_span,
)
from model_graphs.runs.records import Span, StepRun

_STRICT = ConfigDict(extra="forbid")


@with_config(_STRICT)
@dataclass(frozen=True)
class _SpanLine:
    """A span in a file; it ends one median duration after its start."""

    name: str
    kind: str
    component: str
    start_s: float
    median_s: float
    low_s: float
    high_s: float
    flop: float
    traffic_bytes: float


@with_config(_STRICT)
@dataclass(frozen=True)
class _TraceFile:
    schema_version: int
    machine: Machine
    subject: Subject
    protocol: Protocol
    input_hash: str
    plain: Spread
    recorded: Spread
    energy: EnergyReading
    crossing_bytes: dict[str, int]
    makespan_s: float
    spans: tuple[_SpanLine, ...]


_ADAPTER = TypeAdapter(_TraceFile)


def trace_to_json(step: MeasuredStep) -> str:
    """The text of the step's file."""
    head: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "machine": asdict(step.machine),
        "subject": asdict(step.subject),
        "protocol": asdict(step.protocol),
        "input_hash": step.input_hash,
        "plain": asdict(step.plain),
        "recorded": asdict(step.recorded),
        "energy": asdict(step.energy),
        "crossing_bytes": dict(sorted(step.crossing_bytes.items())),
        "makespan_s": step.run.makespan_s,
    }
    lines = [_span_line(span, spread) for span, spread in zip(step.run.spans, step.spreads, strict=True)]
    text = "".join(f"{_json(key)}: {_json(value)},\n" for key, value in head.items())
    return (
        "{\n" + text + '"spans": [\n' + ",\n".join(f"  {_json(asdict(line))}" for line in lines) + "\n]\n}\n"
    )


def _span_line(span: Span, spread: Spread) -> _SpanLine:
    return _SpanLine(
        name=span.name,
        kind=span.kind,
        component=span.component,
        start_s=span.start_s,
        median_s=spread.median_s,
        low_s=spread.low_s,
        high_s=spread.high_s,
        flop=span.flop,
        traffic_bytes=span.traffic_bytes,
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def trace_from_json(text: str, file: str = "") -> MeasuredStep:
    """The measured step that the text holds; `file` is the name that problems carry.

    Raises:
        InputError: with every problem found.
    """
    _check_version(text, file)
    try:
        found = _ADAPTER.validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(*_complaints(error, file)) from error
    problems = [replace(problem, file=file) for problem in _inconsistencies(found)]
    if problems:
        raise InputError(*problems)
    return _measured(found)


def _check_version(text: str, file: str) -> None:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(Problem("must be valid JSON", error.msg, file, error.lineno, error.colno)) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        requirement = f"must be {SCHEMA_VERSION}; measure the step again with `silicast measure`"
        raise InputError(Problem(requirement, repr(version), file, path="schema_version"))


def _complaints(error: ValidationError, file: str) -> Iterator[Problem]:
    requirements = {"unexpected_keyword_argument": "is not a key here", "missing": "must be given"}
    for detail in error.errors(include_url=False):
        path, known = path_text(detail["loc"]), requirements.get(detail["type"])
        if known:
            yield Problem(known, file=file, path=path)
        else:
            yield Problem(detail["msg"], repr(detail["input"])[:60], file, path=path)


def _inconsistencies(found: _TraceFile) -> Iterator[Problem]:
    """Readings out of order, energy of neither value nor reason, spans that overlap or leave the step."""
    spreads = {"plain": found.plain, "recorded": found.recorded}
    spreads |= {f"spans[{i}]": _spread(line) for i, line in enumerate(found.spans)}
    for path, spread in spreads.items():
        if not (0.0 <= spread.low_s <= spread.median_s <= spread.high_s and isfinite(spread.high_s)):
            yield Problem("must hold 0 <= low_s <= median_s <= high_s", str(asdict(spread)), path=path)
    yield from _energy_problems(found.energy)
    yield from _order_problems(found)


def _energy_problems(energy: EnergyReading) -> Iterator[Problem]:
    if energy.joules is None and not energy.reason:
        yield Problem("must be given where joules is null", path="energy.reason")
    if energy.joules is not None and not energy.joules > 0.0:
        yield Problem(
            "must be greater than 0, or null with a reason", str(energy.joules), path="energy.joules"
        )


def _order_problems(found: _TraceFile) -> Iterator[Problem]:
    slack_s = 1e-9 * max(found.makespan_s, 1.0)  # starts and durations are sums of rounded medians
    free_s = 0.0
    for i, line in enumerate(found.spans):
        if line.start_s < free_s - slack_s:
            yield Problem("must start where its predecessor has ended", str(line.start_s), path=f"spans[{i}]")
        free_s = line.start_s + line.median_s
    if free_s > found.makespan_s + slack_s:
        yield Problem("must not end before its last span", str(found.makespan_s), path="makespan_s")


def _spread(line: _SpanLine) -> Spread:
    return Spread(line.median_s, line.low_s, line.high_s)


def _measured(found: _TraceFile) -> MeasuredStep:
    spans = tuple(
        measured_span(
            line.name, line.kind, line.component, line.start_s, line.median_s, line.flop, line.traffic_bytes
        )
        for line in found.spans
    )
    return MeasuredStep(
        machine=found.machine,
        subject=found.subject,
        protocol=found.protocol,
        input_hash=found.input_hash,
        plain=found.plain,
        recorded=found.recorded,
        energy=found.energy,
        run=StepRun(spans, found.makespan_s, n_ranks=1),
        spreads=tuple(_spread(line) for line in found.spans),
        crossing_bytes=found.crossing_bytes,
    )
