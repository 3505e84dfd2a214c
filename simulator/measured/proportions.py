"""Intervals for proportions: how much of a difference in accuracy a number of questions can show.

Scores are taken as independent answers to independent questions. Two models that answered the same questions
are usually told apart by fewer of them, which needs the questions on which they differ and not only the
scores.

References: E. B. Wilson, JASA 22 (1927), 209-212; R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872
(one proportion, method 3) and 873-890 (a difference, method 10).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from hardware_specs.records.errors import InputError, Problem


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval, as fractions."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the value is inside."""
        return self.low <= value <= self.high


def wilson_interval(fraction: float, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion seen in `n` trials.

    Raises:
        InputError: the fraction or the confidence is not a fraction, or there are no trials.
    """
    _check({"proportion": (fraction, n)}, confidence)
    return _wilson(fraction, n, confidence)


def newcombe_interval(
    first: float, n_first: int, second: float, n_second: int, confidence: float = 0.95
) -> Interval:
    """The hybrid score interval of `first` minus `second`, two independent proportions.

    Raises:
        InputError: a fraction or the confidence is not a fraction, or there are no trials.
    """
    _check({"first": (first, n_first), "second": (second, n_second)}, confidence)
    one, other = _wilson(first, n_first, confidence), _wilson(second, n_second, confidence)
    difference = first - second
    below = sqrt((first - one.low) ** 2 + (other.high - second) ** 2)
    above = sqrt((one.high - first) ** 2 + (second - other.low) ** 2)
    return Interval(difference, difference - below, difference + above)


def trials_to_tell_apart(first: float, second: float, confidence: float = 0.95) -> int | None:
    """The fewest trials of each, alike, whose interval of the difference leaves zero out; None if equal."""
    if first == second:
        return None
    many = 1
    while newcombe_interval(first, many, second, many, confidence).holds(0.0):
        many *= 2
    few = many // 2
    while many - few > 1:
        middle = (few + many) // 2
        if newcombe_interval(first, middle, second, middle, confidence).holds(0.0):
            few = middle
        else:
            many = middle
    return many


def _wilson(fraction: float, n: int, confidence: float) -> Interval:
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = fraction + z * z / (2 * n)
    reach = z * sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    shrink = 1 + z * z / n
    low, high = (centre - reach) / shrink, (centre + reach) / shrink
    return Interval(fraction, min(max(low, 0.0), fraction), max(min(high, 1.0), fraction))


def _check(proportions: dict[str, tuple[float, int]], confidence: float) -> None:
    problems = list(_problems(proportions, confidence))
    if problems:
        raise InputError(*problems)


def _problems(proportions: dict[str, tuple[float, int]], confidence: float) -> Iterator[Problem]:
    for name, (fraction, n) in proportions.items():
        if not 0 <= fraction <= 1:
            yield Problem("must be a fraction from 0 to 1, such as 0.892", f"{fraction:g}", path=name)
        if n < 1:
            yield Problem("must be at least 1", str(n), path=f"{name}.n")
    if not 0 < confidence < 1:
        yield Problem("must be between 0 and 1", f"{confidence:g}", path="confidence")
