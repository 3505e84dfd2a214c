import numpy as np
import pytest

from simulator.serving.clock import AttentionRow, Entries, StepClock

from .tables import served_table

GRID = served_table().decode


@pytest.mark.parametrize("sequences", [1, 3, 4, 17, 64, 200])
@pytest.mark.parametrize("length", [0.5, 1.0, 39.0, 40.0, 41.5, 999.0, 1000.0, 5000.0])
def test_a_row_is_the_grid_at_its_number_of_sequences(sequences: int, length: float) -> None:
    row = AttentionRow(GRID, sequences)
    assert row.at(length) == pytest.approx(GRID(sequences, length), rel=1e-12)


@pytest.mark.parametrize("length", [0.2, 1.0, 39.5, 40.0, 150.0, 2000.0])
def test_a_line_holds_up_to_its_knot(length: float) -> None:
    row = AttentionRow(GRID, 9)
    value_s, slope_s, knot = row.line(length)
    for further in np.linspace(length, min(knot, length + 500), 7):
        assert row.at(further) == pytest.approx(value_s + slope_s * (further - length), rel=1e-12)


def test_attention_beyond_the_grid_never_meets_a_knot() -> None:
    assert AttentionRow(GRID, 9).line(1000.5)[2] == float("inf")


def test_tables_go_on_along_their_last_two_entries() -> None:
    entries = Entries(np.array([0.0, 2.0, 5.0]))
    assert [entries[n] for n in (0, 1, 2, 3, 10)] == [0.0, 2.0, 5.0, 8.0, 29.0]  # 5 + 8 x 3


def test_one_rank_reads_the_sum_of_its_tables() -> None:
    table = served_table()
    clock = StepClock(table)
    decode_s = clock.solo_decode[7].at(120.0)
    expected_s = table.local_s[7] + table.expert_s[7] + table.head_s[7] + table.host_base_s
    assert decode_s == pytest.approx(expected_s + table.decode(7, 120.0), rel=1e-12)
