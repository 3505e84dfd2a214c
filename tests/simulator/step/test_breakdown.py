from dataclasses import replace

import pytest
from hypothesis import given

from model_graphs.graph import Stream
from simulator.engine.streams import run_step
from simulator.step.breakdown import IDLE, PRECEDENCE, VIEWS, Share, break_down, explain
from simulator.step.program import StepProgram
from step.programs import contended_programs, operator, overlapped_step


def test_overlapped_layer_by_hand():
    # compute 3 + 4 + 2 + 1 = 10; dispatch exposed 2; combine 9..12 behind shared 9..11, so 1 exposed; idle 0
    found = break_down(run_step(overlapped_step()))
    assert found.makespan_s == pytest.approx(13e-3)
    assert found.exposed_communication_s == pytest.approx(3e-3)
    assert found.idle_s == pytest.approx(0, abs=1e-15)
    communication = found.views["stream"]["communication"]
    assert (communication.busy_s, communication.exposed_s) == pytest.approx((5e-3, 3e-3))
    assert found.views["component"]["moe"] == Share(*map(pytest.approx, (6e-3, 6e-3, 6 / 13)))
    assert found.seconds()["bound"] == pytest.approx(
        {"memory": 8e-3, "network": 3e-3, "compute": 2e-3, IDLE: 0.0}, abs=1e-15
    )


def test_the_largest_part_comes_first():
    views = break_down(run_step(overlapped_step())).views
    assert list(views["component"]) == ["moe", "attention", "communication", "norm"]


def test_waiting_for_a_slow_rank_is_idle_time_of_the_others():
    # rank 0 computes 1 of 4, rank 1 all 4; both communicate 1: idle is 3 on rank 0, 1.5 on the mean
    ops = (
        operator("a", Stream.COMPUTE, (1.0, 4.0)),
        operator("meet", Stream.COMMUNICATION, 1.0, (0,), collective=True),
    )
    found = break_down(run_step(StepProgram(ops, n_ranks=2)))
    assert (found.makespan_s, found.idle_s, found.exposed_communication_s) == (5.0, 1.5, 1.0)


def test_a_copy_counts_where_nothing_else_runs():
    # compute 0..2, second compute 0..2.5, exchange 0..3, copy 0..4: exposed 2, 0.5, 0.5 and 1
    ops = tuple(operator(s.value, s, t) for s, t in zip(PRECEDENCE, (2.0, 2.5, 3.0, 4.0), strict=True))
    streams = break_down(run_step(StepProgram(ops))).views["stream"]
    assert {name: share.exposed_s for name, share in streams.items()} == {
        "compute": 2.0,
        "second compute": 0.5,
        "communication": 0.5,
        "copy": 1.0,
    }


def test_time_after_the_last_operator_is_idle():
    found = break_down(run_step(replace(overlapped_step(), host_floor_s=20e-3)))
    assert found.idle_s == pytest.approx(7e-3)


@given(contended_programs())
def test_every_view_sums_to_the_makespan(program):
    found = break_down(run_step(program))
    assert found.idle_s >= -1e-12 * found.makespan_s
    for view in VIEWS:
        assert sum(found.seconds()[view].values()) == pytest.approx(found.makespan_s, rel=1e-9, abs=1e-15)
        assert all(-1e-12 <= share.exposed_s <= share.busy_s + 1e-12 for share in found.views[view].values())


def test_the_explanation_names_what_bounds_the_step():
    assert explain(break_down(run_step(overlapped_step()))) == (
        "The step lasts 13 ms, and is mostly moe 46%, attention 23%, communication 23%. "
        "What limits its operators: memory 62%, network 23%, compute 15%. "
        "Communication is busy for 5 ms: 2 ms behind compute, 3 ms exposed."
    )


def test_the_explanation_says_that_a_slow_host_makes_a_rank_wait():
    text = explain(break_down(run_step(replace(overlapped_step(), host_floor_s=26e-3))))
    assert text.endswith("For 13 ms (50%) a rank waits for other ranks, a dependency or the host.")


def test_an_empty_step_is_explained_by_its_host():
    found = break_down(run_step(StepProgram((), host_floor_s=1e-3)))
    assert found.idle_fraction == 1.0
    assert explain(found) == "The step lasts 1 ms and runs nothing on the device."
    assert break_down(run_step(StepProgram(()))).idle_fraction == 0.0
