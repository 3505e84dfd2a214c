"""A validation gate: limits on the median absolute error of a metric, written `tpot_ms<10%,ttft_ms<30%`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hardware_specs.records.errors import GateFailedError, InputError, Problem
from simulator.measured.score import Prediction

_LIMIT = re.compile(r"^\s*(\w+)\s*<=?\s*(\d+(?:\.\d+)?)\s*%\s*$")


@dataclass(frozen=True)
class Limit:
    """The median error of a metric must not be above this, percent."""

    metric: str
    percent: float


def parse_gate(text: str) -> tuple[Limit, ...]:
    """The limits of a gate.

    Raises:
        InputError: a part is not of the form `metric<number%`.
    """
    parts = [part for part in text.split(",") if part.strip()]
    matches = [(part, _LIMIT.match(part)) for part in parts]
    problems = [
        Problem("must be of the form metric<10%", repr(part), path="--gate") for part, m in matches if not m
    ]
    if problems:
        raise InputError(*problems)
    return tuple(Limit(match[1], float(match[2])) for _, match in matches if match)


def check_gate(limits: Sequence[Limit], predictions: Sequence[Prediction]) -> None:
    """Nothing, when every limit is met.

    Raises:
        GateFailedError: naming every limit that is not met, or that no answered row can be held against.
    """
    failures = [line for limit in limits if (line := _failure(limit, predictions))]
    if failures:
        raise GateFailedError("gate not met: " + "; ".join(failures))


def _failure(limit: Limit, predictions: Sequence[Prediction]) -> str:
    errors = [
        100 * abs(one.predicted / one.measured - 1)
        for one in predictions
        if one.metric == limit.metric and one.predicted is not None and one.measured
    ]
    if not errors:
        return f"{limit.metric} has no answered row"
    found = float(np.median(errors))
    return "" if found <= limit.percent else f"{limit.metric} {found:.1f}% > {limit.percent:g}%"
