import pytest

from hardware_specs.records.errors import GateFailedError, InputError
from reports.gate import check_gate, parse_gate
from simulator.measured.score import Prediction


def prediction(metric: str, measured: float, predicted: float | None) -> Prediction:
    return Prediction("row", metric, measured, predicted, predicted, predicted, "B", "")


ROWS = [
    prediction("tpot_ms", 10.0, 10.5),
    prediction("tpot_ms", 10.0, 12.0),
    prediction("ttft_ms", 10.0, None),
]


def test_a_gate_is_limits_on_median_errors_in_percent() -> None:
    assert [(one.metric, one.percent) for one in parse_gate("tpot_ms<10%, ttft_ms<=30.5%")] == [
        ("tpot_ms", 10.0),
        ("ttft_ms", 30.5),
    ]
    assert parse_gate("") == ()


def test_every_broken_part_of_a_gate_is_named() -> None:
    with pytest.raises(InputError) as caught:
        parse_gate("tpot_ms<10%,ttft,x>3%")
    assert len(caught.value.problems) == 2


def test_a_gate_that_is_met_says_nothing() -> None:
    # errors 5% and 20%: median 12.5%
    check_gate(parse_gate("tpot_ms<12.5%"), ROWS)


def test_a_gate_that_is_not_met_names_metric_error_and_limit() -> None:
    with pytest.raises(GateFailedError, match=r"tpot_ms 12.5% > 12%"):
        check_gate(parse_gate("tpot_ms<12%"), ROWS)


def test_a_metric_without_an_answer_fails_its_gate() -> None:
    with pytest.raises(GateFailedError, match="ttft_ms has no answered row"):
        check_gate(parse_gate("ttft_ms<90%"), ROWS)
