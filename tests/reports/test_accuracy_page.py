"""The accuracy page and card: labels kept apart, nothing that JSON cannot hold, readable back."""

import json

import pytest

pytest.importorskip("pyarrow", reason="the page scores kernel tables, extra [silicon]")

from reports.accuracy import AccuracyLine
from reports.accuracy_page import DEV, LEFT_OUT, SEEN, card, page
from simulator.measured.score import ScoreLine

NAN = float("nan")
STAMP = {"date": "2026-01-01", "version": "0.0", "data_hash": "abc"}
LINES = [
    (DEV, ScoreLine("all rows", "tpot_ms", 10, 9, 6.04, 8.0, 15.0, -1.0, 88.9, 12.0)),
    (LEFT_OUT, ScoreLine("m|s|e|fp8|tp8", "ttft_ms", 2, 0, NAN, NAN, NAN, NAN, NAN, NAN)),
    (SEEN, ScoreLine("all rows", "tpot_ms", 10, 10, 3.0, 4.0, 5.0, 0.0, 100.0, 12.0)),
]


def test_the_page_has_a_row_a_score_with_its_label():
    text = page(LINES, "## Kernels\n", STAMP)
    assert f"| {DEV} | all rows | tpot_ms | 10 | 9 | 6.0 | 8.0 | 15.0 | -1.0 | 88.9 | 12.0 |" in text
    assert f"| {LEFT_OUT} | m, s, e, fp8, tp8 | ttft_ms | 2 | 0 | - | - | - | - | - | - |" in text
    assert f"| {SEEN} | all rows |" in text
    assert text.endswith("## Kernels\n")


def test_the_card_holds_headlines_that_no_fit_saw():
    content = json.loads(card(LINES, STAMP))
    lines = [AccuracyLine(**line) for line in content.pop("lines")]
    assert content == STAMP
    assert [(line.split, line.name) for line in lines] == [(DEV, "all rows")]


def test_the_same_scores_make_the_same_bytes():
    assert card(LINES, STAMP) == card(LINES, STAMP)
    assert page(LINES, "", STAMP) == page(LINES, "", STAMP)
