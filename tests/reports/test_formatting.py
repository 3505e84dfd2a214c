import pytest

from hardware_specs.records.evidence import Estimate, Grade
from reports.formatting import decimal, figure, gib, interval, percent, signed_percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (123456.0, "123,500"),
        (16.629842, "16.63"),
        (0.00123456, "0.001235"),
        (0.0000123456, "1.235e-05"),
        (-2.5, "-2.500"),
        (9999.6, "10,000"),
        (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)
def test_a_figure_has_four_significant_digits(value: float, text: str) -> None:
    assert figure(value) == text


def test_intervals_have_three_digits() -> None:
    assert interval(Estimate(10.0, 9.123, 11.456, "ms", Grade.B)) == "[9.12, 11.5]"


def test_large_counts_take_a_decimal_prefix() -> None:
    assert decimal(671_026_404_352, "") == "671.0 G"
    assert decimal(383_866_460_176_384, "FLOP") == "383.9 TFLOP"
    assert decimal(12, "B") == "12.00 B"


def test_memory_is_binary_and_says_so() -> None:
    assert gib(143771 * 2**20) == "140.40 GiB"


def test_percentages() -> None:
    assert percent(0.1234) == "12.3%"
    assert signed_percent(-0.05) == "-5.0%"
    assert signed_percent(float("nan")) == "-"
