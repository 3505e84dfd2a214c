import math

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter

from hardware_specs.records.errors import InputError
from hardware_specs.records.fields import BytesPerSecondQ, CountQ, FractionQ, SecondsQ, UsdPerHourQ
from hardware_specs.records.quantities import Kind, Quantity
from hardware_specs.records.yaml_reader import parse_document, validate_document


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bandwidth: BytesPerSecondQ | None = None
    latency: SecondsQ | None = None
    count: CountQ | None = None
    share: FractionQ | None = None
    price: UsdPerHourQ | None = None


def read(text: str) -> Part:
    return validate_document(Part, parse_document(text, "part.yaml"))


def complaints(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_figure_is_stored_in_si_with_its_provenance() -> None:
    part = read("bandwidth: {value: 4.8, unit: TB/s, source: a page, kind: datasheet, note: one way}")
    assert part.bandwidth == Quantity(4.8e12, "TB/s", "a page", Kind.DATASHEET, "one way")
    assert part.bandwidth.written() == "4.8 TB/s"


def test_a_bare_number_has_no_unit_source_or_kind() -> None:
    (problem,) = complaints("bandwidth: 4.8")
    assert problem == (
        "part.yaml:1:12  bandwidth  must be {value, unit, source, kind}; "
        "a bare number has no unit, source or kind; given 4.8"
    )


def test_what_is_missing_is_named() -> None:
    assert complaints("bandwidth: {value: 4.8}") == [
        "part.yaml:1:12  bandwidth  must have value, unit, source and kind; missing: unit, source, kind"
    ]


def test_a_unit_of_another_dimension_is_refused_where_it_stands() -> None:
    (problem,) = complaints("bandwidth:\n  value: 4.8\n  unit: TB\n  source: a page\n  kind: datasheet\n")
    assert problem.startswith("part.yaml:3:9  bandwidth.unit  unit must measure bytes per s")
    assert problem.endswith("given 'TB'; did you mean TB/s?")


def test_every_problem_of_a_figure_is_told_at_once() -> None:
    text = "bandwidth: {value: -1, unit: TB, source: '', kind: guessed, remark: none}"
    wrong = [problem.split("  ")[1] for problem in complaints(text)]
    assert wrong == [f"bandwidth.{key}" for key in ("value", "unit", "source", "kind", "remark")]


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        (
            "latency: {value: -1, unit: us, source: s, kind: assumed}",
            "latency.value  must not be negative; given -1",
        ),
        (
            "count: {value: 2.5, unit: '1', source: s, kind: assumed}",
            "count.value  must be a whole number; given 2.5",
        ),
        (
            "share: {value: 101, unit: '%', source: s, kind: assumed}",
            "share.value  must be at most 1; given 101",
        ),
        ("price: {value: two, unit: USD/h, source: s, kind: assumed}", "price.value  must be a number"),
        ("price: {value: true, unit: USD/h, source: s, kind: assumed}", "price.value  must be a number"),
    ],
)
def test_a_value_must_be_possible(text: str, requirement: str) -> None:
    assert requirement in complaints(text)[0]


def test_zero_latency_is_a_value_and_zero_bandwidth_is_not() -> None:
    assert read("latency: {value: 0, unit: us, source: ideal, kind: assumed}").latency is not None
    assert (
        "must be greater than 0"
        in complaints("bandwidth: {value: 0, unit: B/s, source: s, kind: assumed}")[0]
    )


def test_percent_is_a_fraction() -> None:
    share = read("share: {value: 92, unit: '%', source: s, kind: measured}").share
    assert share is not None
    assert math.isclose(share.value, 0.92)


def test_a_quantity_made_in_code_passes() -> None:
    quantity = Quantity(1.0, "s", "s", Kind.ASSUMED)
    assert Part(latency=quantity).latency is quantity


def test_the_schema_lists_the_units_and_kinds() -> None:
    schema = TypeAdapter(SecondsQ).json_schema()
    assert "us" in schema["properties"]["unit"]["enum"]
    assert schema["required"] == ["value", "unit", "source", "kind"]
