"""Request traces: readers of the Azure CSV and the Mooncake JSONL, and a writer of the latter.

A broken row is reported with its line number and left out; every problem of the file comes back at once and
the good rows are answered. Times are seconds from the first request of the file.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite, nan
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE_FIELDS = ("timestamp", "input_length", "output_length")

#: date and time, then a fraction of any number of digits (Azure writes seven) and an optional zone
_TIME = re.compile(r"^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?$")


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request: when it was sent, its lengths, and the hashes of its prompt's blocks where known."""

    arrival_s: float
    input_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trace:
    """The good rows of a trace in order of arrival, and what was wrong with the others."""

    rows: tuple[TraceRow, ...]
    problems: tuple[Problem, ...] = ()


def read_trace(path: str | Path) -> Trace:
    """The requests of a trace file, told apart by its first line: a JSON object or the Azure header.

    Raises:
        InputError: the file cannot be read, or is neither format.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            Problem(file=str(path), requirement="must be a readable UTF-8 text file", given=str(error))
        ) from error
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        return _collect(str(path), enumerate(lines, 1), _mooncake_row)
    header = tuple(name.strip() for name in next(csv.reader([first]), []))
    if set(AZURE_COLUMNS) <= set(header):
        return _collect(str(path), _after_header(lines), lambda line: _azure_row(header, line))
    raise InputError(
        Problem(
            file=str(path),
            line=1,
            requirement=f"must be JSON lines or CSV with the columns {', '.join(AZURE_COLUMNS)}",
            given=repr(first[:80]),
        )
    )


def write_mooncake(rows: Iterable[TraceRow], path: str | Path) -> None:
    """Write rows as Mooncake JSONL (milliseconds), which load generators replay against a real server."""
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            entry: dict[str, object] = {
                "timestamp": round(row.arrival_s * 1000),
                "input_length": row.input_tokens,
                "output_length": row.output_tokens,
            }
            if row.hash_ids:
                entry["hash_ids"] = list(row.hash_ids)
            file.write(json.dumps(entry) + "\n")


def _after_header(lines: list[str]) -> Iterator[tuple[int, str]]:
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    next(numbered)
    return numbered


def _collect(file: str, lines: Iterable[tuple[int, str]], parse: Callable[[str], TraceRow]) -> Trace:
    rows: list[TraceRow] = []
    problems: list[Problem] = []
    for number, line in lines:
        if not line.strip():
            continue
        try:
            rows.append(parse(line))
        except InputError as error:
            problems += [replace(problem, file=file, line=number) for problem in error.problems]
    start_s = min((row.arrival_s for row in rows), default=0.0)
    ordered = sorted(rows, key=lambda row: row.arrival_s)
    return Trace(tuple(replace(row, arrival_s=row.arrival_s - start_s) for row in ordered), tuple(problems))


def _azure_row(header: tuple[str, ...], line: str) -> TraceRow:
    cells = [cell.strip() for cell in next(csv.reader([line]))]
    if len(cells) != len(header):
        raise InputError(Problem(requirement=f"must have {len(header)} columns", given=str(len(cells))))
    row = dict(zip(header, cells, strict=True))
    return _row(_clock_s, row["TIMESTAMP"], row, AZURE_COLUMNS)


def _mooncake_row(line: str) -> TraceRow:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(Problem(requirement="must be a JSON object", given=str(error))) from error
    if not isinstance(row, dict):
        raise InputError(Problem(requirement="must be a JSON object", given=line[:40]))
    missing = [name for name in MOONCAKE_FIELDS if name not in row]
    if missing:
        raise InputError(*(Problem(path=name, requirement="must be given") for name in missing))
    parsed = _row(_milliseconds_s, row["timestamp"], row, MOONCAKE_FIELDS)
    return replace(parsed, hash_ids=_hash_ids(row.get("hash_ids", [])))


def _row(
    read_time: Callable[[object], float], time: object, row: Mapping[str, object], names: tuple[str, str, str]
) -> TraceRow:
    """A row from its three fields, with the problems of all three at once."""
    problems: list[Problem] = []
    arrival_s = _read(names[0], time, read_time, problems)
    input_tokens = _read(names[1], row[names[1]], _tokens, problems)
    output_tokens = _read(names[2], row[names[2]], _tokens, problems)
    if problems:
        raise InputError(*problems)
    return TraceRow(arrival_s, int(input_tokens), int(output_tokens))


def _read(name: str, given: object, read: Callable[[object], float], problems: list[Problem]) -> float:
    """The field's value; where there is none, nan and one more problem."""
    try:
        return read(given)
    except ValueError as error:
        problems.append(Problem(path=name, requirement=str(error), given=repr(given)))
        return nan


def _clock_s(given: object) -> float:
    """Seconds since 1970 of an Azure time stamp; all digits of the fraction count."""
    match = _TIME.match(str(given))
    if match is None:
        raise ValueError("must be a time such as 2023-11-16 18:17:03.9799600")
    day, clock, fraction, zone = match.groups()
    moment = datetime.fromisoformat(f"{day}T{clock}{(zone or 'Z').replace('Z', '+00:00')}")
    return moment.timestamp() + float(fraction or 0.0)


def _milliseconds_s(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not isfinite(given):
        raise ValueError("must be a number of milliseconds")
    return given / 1000


def _tokens(given: object) -> int:
    if isinstance(given, str) and given.isascii() and given.isdigit():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError("must be a whole number of tokens, 1 or more")
    return given


def _hash_ids(given: object) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(isinstance(item, int) for item in given):
        raise InputError(
            Problem(path="hash_ids", requirement="must be a list of integers", given=repr(given)[:40])
        )
    return tuple(given)
