"""A measured row of any source: identity, the scenario that reproduces it, the figures, the assumptions."""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem
from simulator.scenario.model import Scenario

Record = Mapping[str, str]


@dataclass(frozen=True)
class MeasuredRow:
    """One measured run. `figures` maps a metric's name to its value; `suite` names the table it is scored in.

    `deployment_key` groups rows of one model, system, engine and precision, for leave-one-deployment-out
    folds; `flags` say what about the run is suspected (by stated rules), so that it can be scored with and
    without.
    """

    id: str
    scenario: Scenario
    figures: Mapping[str, float]
    suite: str
    assumptions: tuple[str, ...]
    deployment_key: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnansweredRow:
    """A row that names no scenario here, the metrics it asked for, and why it is not answered."""

    id: str
    metrics: tuple[str, ...]
    reason: str


def read_rows(
    path: Path,
    required: set[str],
    read: Callable[[Record], MeasuredRow],
    metrics: Callable[[Record], tuple[str, ...]],
) -> tuple[list[MeasuredRow], list[UnansweredRow]]:
    """Rows that read, and for each that does not the reason with file and line.

    Raises:
        InputError: the file is missing or lacks a column that every row needs.
    """
    rows: list[MeasuredRow] = []
    unanswered: list[UnansweredRow] = []
    for line, record in _records(path, required):
        try:
            rows.append(read(record))
        except InputError as error:
            where = [str(replace(problem, file=path.name, line=line)) for problem in error.problems]
            unanswered.append(
                UnansweredRow(record.get("id") or f"line {line}", metrics(record), "; ".join(where))
            )
    return rows, unanswered


def _records(path: Path, required: set[str]) -> Iterator[tuple[int, Record]]:
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        missing = required - set(reader.fieldnames or ())
        if missing:
            raise InputError(
                Problem(
                    f"measured file needs columns {', '.join(sorted(missing))}",
                    file=str(path),
                    line=1,
                    column=1,
                )
            )
        for record in reader:
            yield reader.line_num, {key: value or "" for key, value in record.items() if key is not None}


class Fields:
    """Typed access to a record's fields that collects every problem before it raises."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.problems: list[Problem] = []

    def text(self, name: str) -> str:
        """The field, or the empty string."""
        return self.record.get(name, "").strip()

    def choice(self, name: str, choices: Mapping[str, str]) -> str:
        """The field mapped through `choices`."""
        text = self.text(name)
        if text not in choices:
            self.problems.append(
                Problem(f"must be one of {', '.join(sorted(choices))}", repr(text), path=name)
            )
        return choices.get(text, "")

    def positive(self, name: str, default: float | None = None) -> float:
        """The field as a positive number; empty gives `default`, or a problem where there is none."""
        text = self.text(name)
        if not text and default is not None:
            return default
        try:
            value = float(text)
            if value > 0:
                return value
        except ValueError:
            pass
        self.problems.append(Problem("must be a positive number", repr(text), path=name))
        return 1.0

    def optional(self, name: str) -> float | None:
        """The field as a positive number, or None where it is empty."""
        return self.positive(name) if self.text(name) else None

    def done(self) -> None:
        """Raises what was collected.

        Raises:
            InputError: a field is missing or broken.
        """
        if self.problems:
            raise InputError(*self.problems)
