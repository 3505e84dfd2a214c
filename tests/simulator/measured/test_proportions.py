import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_specs.records.errors import InputError
from simulator.measured.proportions import newcombe_interval, trials_to_tell_apart, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_score_intervals_are_those_of_newcombes_first_table(
    successes: int, n: int, low: float, high: float
) -> None:
    found = wilson_interval(successes / n, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_intervals_of_a_difference_are_those_of_newcombes_second_table(
    a: int, m: int, b: int, n: int, low: float, high: float
) -> None:
    found = newcombe_interval(a / m, m, b / n, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.floats(0, 1), st.integers(1, 10**6), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_an_interval_holds_its_value_and_stays_among_fractions(
    fraction: float, n: int, confidence: float
) -> None:
    found = wilson_interval(fraction, n, confidence)
    assert 0 <= found.low <= fraction <= found.high <= 1


@given(st.integers(0, 50), st.integers(0, 50))
def test_exchanging_the_two_turns_the_difference_round(a: int, b: int) -> None:
    one, other = newcombe_interval(a / 50, 50, b / 50, 50), newcombe_interval(b / 50, 50, a / 50, 50)
    assert (one.low, one.high) == (pytest.approx(-other.high), pytest.approx(-other.low))


@given(st.integers(0, 40), st.integers(2, 20))
def test_more_trials_narrow_the_interval(successes: int, times: int) -> None:
    few, many = wilson_interval(successes / 40, 40), wilson_interval(successes / 40, 40 * times)
    assert many.high - many.low < few.high - few.low


def test_the_articles_difference_is_just_told_apart_by_its_number_of_questions() -> None:
    found = newcombe_interval(0.917, 1273, 0.892, 1273)
    assert 0 < found.low < 0.003
    assert 0.04 < found.high < 0.05
    needed = trials_to_tell_apart(0.917, 0.892)
    assert needed is not None
    assert needed <= 1273
    assert newcombe_interval(0.917, needed - 1, 0.892, needed - 1).holds(0)
    assert trials_to_tell_apart(0.5, 0.5) is None


def test_all_wrong_input_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        newcombe_interval(89.2, 1273, 0.9, 0, 95)
    assert len(caught.value.problems) == 3
