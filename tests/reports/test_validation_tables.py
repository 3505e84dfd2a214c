from reports.console import console
from reports.validation_tables import spans, unanswered_table, without_places
from simulator.measured.score import Prediction
from simulator.measured.validation import ValidationReport


def test_a_reason_is_told_apart_from_its_place() -> None:
    assert without_places("runs.csv:12  isl  must be a number; runs.csv:12  osl  must be a number") == (
        "isl  must be a number; osl  must be a number",
        {12},
    )


def test_lines_in_a_row_are_one_span() -> None:
    assert spans({5, 2, 3, 4, 9}) == "2-5, 9"
    assert spans([]) == ""


def test_rows_with_one_reason_are_one_line() -> None:
    refused = [
        Prediction(str(n), "tpot_ms", 1.0, None, None, None, "", f"runs.csv:{n}  no model") for n in (2, 3)
    ]
    out = console()
    with out.capture() as captured:
        out.print(unanswered_table(ValidationReport(tuple(refused), (), "hash")))
    assert captured.get().splitlines()[3].split() == ["2", "2-3", "no", "model"]
