import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_specs.records.errors import InputError
from hardware_specs.records.quantities import UNITS, parse_quantity, unit_factor

KNOWN_UNITS = st.sampled_from(sorted(UNITS))
VALUES = st.floats(min_value=1e-6, max_value=1e15)


@given(VALUES, KNOWN_UNITS)
def test_text_is_read_as_value_times_factor(value: float, unit: str) -> None:
    dimension, factor = UNITS[unit]
    assert parse_quantity(f"{value!r} {unit}", dimension) == value * factor


@given(VALUES, KNOWN_UNITS.filter(lambda unit: unit != "1"))
def test_a_space_before_the_unit_changes_nothing(value: float, unit: str) -> None:
    dimension = UNITS[unit][0]
    text = f"{value:.6f}"
    assert parse_quantity(f"{text}{unit}", dimension) == parse_quantity(f"  {text}   {unit} ", dimension)


@given(KNOWN_UNITS, KNOWN_UNITS)
def test_a_unit_measures_one_dimension_only(unit: str, other: str) -> None:
    dimension = UNITS[other][0]
    if UNITS[unit][0] == dimension:
        assert unit_factor(unit, dimension) == UNITS[unit][1]
    else:
        with pytest.raises(InputError, match="must measure"):
            unit_factor(unit, dimension)


@given(st.text(max_size=20))
def test_any_other_text_is_an_input_error_and_never_a_crash(text: str) -> None:
    try:
        assert parse_quantity(text, "bytes") >= 0 or text.strip().startswith("-")
    except InputError as error:
        assert error.problems


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("4.8 TB/s", "bytes_per_s", 4.8e12),
        ("400 Gbit/s", "bytes_per_s", 50e9),
        ("80 GiB", "bytes", 80 * 2**30),
        ("81,559 MiB", "bytes", 81559 * 2**20),
        ("141e9 B", "bytes", 141e9),
        ("1_000 ms", "s", 1.0),
        ("92 %", "dimensionless", 0.92),
        ("3", "dimensionless", 3.0),
        ("0.1 USD/kWh", "usd_per_j", 0.1 / 3.6e6),
    ],
)
def test_the_common_forms(text: str, dimension: str, expected: float) -> None:
    assert parse_quantity(text, dimension) == pytest.approx(expected, rel=1e-15)


def test_a_number_without_a_unit_is_refused() -> None:
    with pytest.raises(InputError, match="must be a number with a unit of bytes; given '80'"):
        parse_quantity("80", "bytes")


def test_the_nearest_unit_is_offered() -> None:
    with pytest.raises(InputError, match=r"did you mean Gbit/s\?"):
        parse_quantity("900 Gb/s", "bytes_per_s")
