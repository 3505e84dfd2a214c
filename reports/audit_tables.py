"""The printed form of an audit: a line for each claim, then what was found about each of its figures."""

from collections.abc import Iterator, Sequence

from rich.console import Group

from hardware_specs.records.evidence import Estimate
from reports.audit import FigureVerdict, Verdict
from reports.formatting import decimal, figure, percent
from reports.tables import definition, table


def verdict_tables(verdicts: Sequence[Verdict]) -> Iterator[Group]:
    """The summary, then one list of findings a claim."""
    rows = [(one.claim, one.ruling.value, one.title, one.deciding.finding.binding or "-") for one in verdicts]
    yield table("Claims", ("claim", "verdict", "what it says", "limit that binds"), rows)
    for one in verdicts:
        yield definition(f"{one.claim}  {one.title}", _claim_lines(one))


def _claim_lines(one: Verdict) -> Iterator[tuple[str, str]]:
    for verdict in one.figures:
        yield verdict.finding.ruling.value, verdict.says
        yield from (("", line) for line in _finding_lines(verdict))
    if one.reading:
        yield "read as", one.reading
    yield "source", one.source


def _finding_lines(verdict: FigureVerdict) -> Iterator[str]:
    finding = verdict.finding
    if finding.predicted:
        off = f", off by x{figure(finding.factor, 3)}" if finding.factor else ""
        yield f"claimed {finding.claimed}; found {_found(finding.predicted)}{off}"
    yield finding.reason
    if finding.binding:
        yield f"binding: {finding.binding}"
    yield f"run: {finding.run}"
    if verdict.citations:
        yield f"cited: {'; '.join(verdict.citations)}"


def _found(estimate: Estimate) -> str:
    shown = [_quantity(value, estimate.unit) for value in (estimate.value, estimate.low, estimate.high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}] grade {estimate.grade.value}"


def _quantity(value: float, unit: str) -> str:
    return percent(value) if unit == "1" else decimal(value, unit)
