import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_graphs.graph import Stream
from simulator.step.longest_path import critical_path, end_times_s, longest_path_s
from simulator.step.program import StepProgram
from step.programs import operator, overlapped_step, step_programs


def test_overlapped_layer_by_hand():
    # attn 3, dispatch 5, experts 9, combine 12, shared 11 (beside combine), norm 12 + 1
    program = overlapped_step()
    ends_ms = end_times_s(program, program.durations_s)[:, 0] * 1e3
    assert ends_ms == pytest.approx([3, 5, 9, 12, 11, 13])
    assert longest_path_s(program) == pytest.approx(13e-3)


def test_the_critical_path_skips_what_is_hidden():
    program = overlapped_step()
    names = [program.operators[each.operator].name for each in critical_path(program)]
    assert names == ["attn", "dispatch", "experts", "combine", "norm"]


def test_a_collective_starts_with_its_last_rank():
    # rank 1 arrives at 3, so rank 0 leaves at 3 + 1 as well
    ops = (
        operator("a", Stream.COMPUTE, (1.0, 3.0)),
        operator("meet", Stream.COMMUNICATION, 1.0, (0,), collective=True),
    )
    program = StepProgram(ops, n_ranks=2)
    assert end_times_s(program, program.durations_s).tolist() == [[1.0, 3.0], [4.0, 4.0]]


@given(step_programs(min_operators=1))
def test_durations_and_gaps_along_the_critical_path_add_up_to_the_end(program):
    path = critical_path(program)
    total_s = sum(program.durations_s[each.operator, each.rank] + each.gap_s for each in path)
    assert total_s == pytest.approx(end_times_s(program, program.durations_s).max(), rel=1e-12, abs=1e-15)


@given(step_programs(), st.lists(st.floats(0.1, 10.0), min_size=1, max_size=5))
def test_trailing_axes_are_priced_as_if_one_by_one(program, factors):
    together = longest_path_s(program, program.durations_s[..., np.newaxis] * factors)
    assert together.tolist() == [longest_path_s(program, program.durations_s * f) for f in factors]


def test_one_column_stands_for_all_ranks():
    program = overlapped_step(n_ranks=8)
    assert longest_path_s(program, program.durations_s[:, :1]) == longest_path_s(program)


def test_an_empty_step_lasts_as_long_as_its_host():
    assert longest_path_s(StepProgram((), host_floor_s=2e-3)) == 2e-3
    assert critical_path(StepProgram(())) == ()


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"must have the shape \[6, 2 or 1, ...\]; given \[6\]"):
        longest_path_s(overlapped_step(), np.ones(6))
