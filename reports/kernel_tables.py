"""The printed form of priced kernel shapes."""

import math
from collections.abc import Sequence

import numpy as np
from rich.console import Group

from reports.formatting import figure, percent, signed_percent
from reports.kernel_table import KernelAnswer
from reports.tables import table


def answer_table(answers: Sequence[KernelAnswer]) -> Group:
    """One line a shape, microseconds."""
    columns = ("id", ">measured", ">predicted", ">90% interval", ">error", "grade", "bound", "why not")
    evidence = dict.fromkeys(answer.reason for answer in answers if answer.predicted is not None)
    return table("Kernels (us)", columns, map(_row, answers), caption="\n".join(evidence))


def _row(answer: KernelAnswer) -> tuple[str, ...]:
    low, high = answer.low, answer.high
    interval = "" if low is None or high is None else f"[{figure(low, 3)}, {figure(high, 3)}]"
    return (
        answer.id,
        figure(answer.measured) if answer.measured is not None else "-",
        figure(answer.predicted) if answer.predicted is not None else "-",
        interval,
        signed_percent(answer.error),
        answer.grade,
        answer.bound,
        answer.reason if answer.predicted is None else "",
    )


def score_line(answers: Sequence[KernelAnswer]) -> str:
    """Counts, and errors over the shapes whose latency was measured."""
    answered = [answer for answer in answers if answer.predicted is not None]
    line = f"{len(answered)} of {len(answers)} shapes answered"
    errors = np.array([answer.error for answer in answered if not math.isnan(answer.error)])
    if not errors.size:
        return line
    apart = (
        f"MAPE {percent(float(np.abs(errors).mean()))}, median {percent(float(np.median(np.abs(errors))))}"
    )
    return f"{line}; {errors.size} measured: {apart}, bias {signed_percent(float(np.median(errors)))}"
