"""Printed forms of intervals for proportions, and of the accuracy study."""

from collections.abc import Iterator, Sequence

from rich.console import Group

from reports.accuracy_study import LABEL, Result
from reports.accuracy_study_page import told
from reports.tables import definition, table
from simulator.measured.proportions import Interval, newcombe_interval, trials_to_tell_apart, wilson_interval


def proportion_tables(fractions: Sequence[float], n: int, confidence: float) -> Iterator[Group]:
    """The interval of each accuracy, and the answer about their difference."""
    rows = [_row(f"{one:.1%}", wilson_interval(one, n, confidence)) for one in fractions]
    if len(fractions) == 2:
        rows.append(_row("difference", _difference(fractions, n, confidence)))
    columns = ("accuracy", ">value", ">low", ">high")
    yield table(f"{confidence:.0%} intervals on {n:,} questions", columns, rows)
    if len(fractions) == 2:
        yield definition("", [("answer", answer(fractions, n, confidence))])


def answer(fractions: Sequence[float], n: int, confidence: float) -> str:
    """Whether the second differs from the first, in a sentence, and how many questions that takes."""
    difference = _difference(fractions, n, confidence)
    needed = trials_to_tell_apart(fractions[0], fractions[1], confidence)
    size = f"{_points(difference.value)} points ({_points(difference.low)} to {_points(difference.high)})"
    if needed is None:
        return "the two are equal"
    if difference.holds(0.0):
        return f"not told apart: {size}; {needed:,} questions would be needed for a difference of this size"
    return f"told apart: {size}; {needed:,} questions are enough for a difference of this size"


def _difference(fractions: Sequence[float], n: int, confidence: float) -> Interval:
    first, second = fractions
    return newcombe_interval(second, n, first, n, confidence)


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _row(name: str, interval: Interval) -> tuple[str, ...]:
    return (name, *(f"{100 * value:.2f}%" for value in (interval.value, interval.low, interval.high)))


def proportion_json(fractions: Sequence[float], n: int, confidence: float) -> dict[str, object]:
    """The same content."""
    content: dict[str, object] = {
        "schema_version": 1,
        "n": n,
        "confidence": confidence,
        "intervals": [vars_of(wilson_interval(one, n, confidence)) for one in fractions],
    }
    if len(fractions) == 2:
        content["difference"] = vars_of(_difference(fractions, n, confidence))
        content["questions_needed"] = trials_to_tell_apart(fractions[0], fractions[1], confidence)
        content["answer"] = answer(fractions, n, confidence)
    return content


def vars_of(interval: Interval) -> dict[str, float]:
    """The interval as plain data."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def study_tables(result: Result) -> Iterator[Group]:
    """Schemes and effects of the study."""
    rows = [
        (
            line["plan"],
            f"{line['bits_a_weight']:.2f}",
            told(line["divergence"], 5),
            told(line["agreement"], 4),
            told(line["loss_change"], 5),
        )
        for line in result["schemes"]
    ]
    columns = ("transform", ">bits a\nweight", ">KL, nats a byte", ">agreement", ">loss change")
    yield table(f"Accuracy of transforms ({LABEL})", columns, rows, caption="± standard error over seeds")
    effects = [
        (name.replace("_", " "), *(f"{effect[key]:.2e}" for key in ("value", "low", "high")))
        for name, effect in sorted(result["effects"].items())
    ]
    headings = ("effect", ">value", ">low", ">high")
    yield table("Paired effects with 90% intervals", headings, effects)
