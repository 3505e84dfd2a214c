"""Scores by hand."""

from dataclasses import replace

import pytest

from hardware_specs.records.errors import InputError
from simulator.measured.score import Prediction, score

ROW = Prediction("a", "tpot_ms", 10.0, 11.0, 9.0, 13.0, "B", "")


def test_errors_bias_coverage_and_width_by_hand():
    rows = [ROW, replace(ROW, measured=20.0, predicted=16.0, low=15.0, high=17.0)]
    line = score("suite", "tpot_ms", rows)
    # errors 10% and 20%; signed +10% and -20%; covered: 10 in 9..13, not 20 in 15..17; widths 2/11, 1/16
    assert line.median == pytest.approx(15)
    assert line.mean == pytest.approx(15)
    assert line.bias == pytest.approx(-5)
    assert line.coverage == pytest.approx(50)
    assert line.half_width == pytest.approx(100 * (2 / 11 + 1 / 16) / 2)


def test_a_row_without_an_answer_counts_as_asked_and_not_as_answered():
    line = score("suite", "tpot_ms", [ROW, replace(ROW, predicted=None, low=None, high=None)])
    assert (line.asked, line.answered) == (2, 1)


def test_nothing_cannot_be_scored():
    with pytest.raises(InputError):
        score("suite", "tpot_ms", [])
