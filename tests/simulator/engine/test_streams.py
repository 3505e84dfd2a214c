from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from step.programs import contended_programs, operator, overlapped_step, step_programs, times_s

from model_graphs.graph import Stream
from model_graphs.graph_io import load_graph
from simulator.engine.streams import run_step, step_times
from simulator.step.longest_path import end_times_s, longest_path_s
from simulator.step.program import Link, StepProgram, TimedBlock, launched_once, launched_one_by_one, unroll

COMPUTE, COMMUNICATION, COPY = Stream.COMPUTE, Stream.COMMUNICATION, Stream.COPY


def test_overlapped_layer_by_hand():
    times = step_times(overlapped_step())
    assert times.start_s[:, 0] * 1e3 == pytest.approx([0, 3, 5, 9, 9, 12])
    assert times.makespan_s == pytest.approx(13e-3)


def test_operators_launched_one_by_one_start_no_sooner_than_the_host_allows():
    # launches at 1, 2, 3; durations 0.5: starts 1, 2, 3. Captured: one launch at 1, then back to back
    ops = tuple(operator(f"op{i}", COMPUTE, 0.5) for i in range(3))
    assert step_times(StepProgram(launched_one_by_one(ops, 1.0))).start_s[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert step_times(StepProgram(launched_once(ops, 1.0))).start_s[:, 0].tolist() == [1.0, 1.5, 2.0]


def test_a_slow_host_floors_the_step():
    program = overlapped_step()
    assert step_times(replace(program, host_floor_s=50e-3)).makespan_s == 50e-3
    assert step_times(replace(program, host_floor_s=1e-3)).makespan_s == pytest.approx(13e-3)


def test_ranks_on_one_link_share_it_and_ranks_on_their_own_do_not():
    # 2 s flow: alone on its own link; four ranks on two links of two take twice as long
    ops = (operator("send", COPY, 2.0, link="nic"),)
    assert step_times(StepProgram(ops, 4, links=(Link("nic", 1),))).end_s.tolist() == [[2.0] * 4]
    assert step_times(StepProgram(ops, 4, links=(Link("nic", 2),))).end_s.tolist() == [[4.0] * 4]


def test_streams_of_a_rank_contend_on_its_link():
    # copy 1 s and all-to-all 3 s from 0: shared until the copy has its second at 2, the rest alone until 4
    ops = (
        operator("copy", COPY, 1.0, link="nic"),
        operator("exchange", COMMUNICATION, 3.0, collective=True, link="nic"),
        operator("after", COMPUTE, 1.0, (1,)),
    )
    times = step_times(StepProgram(ops, 2, links=(Link("nic"),)))
    assert times.end_s[:, 0].tolist() == [2.0, 4.0, 5.0]


def test_a_flow_waits_for_its_launch():
    ops = (operator("send", COPY, 1.0, link="nic", launch_s=0.25),)
    times = step_times(StepProgram(ops, links=(Link("nic"),)))
    assert (times.start_s[0, 0], times.end_s[0, 0]) == (0.25, 1.25)


@given(step_programs())
def test_events_and_longest_path_agree(program):
    times = step_times(program)
    assert times.end_s == pytest.approx(end_times_s(program, program.durations_s), rel=1e-12)
    assert times.makespan_s == pytest.approx(float(longest_path_s(program)), rel=1e-12)


@given(contended_programs())
def test_contention_never_beats_the_longest_path(program):
    assert step_times(program).makespan_s >= longest_path_s(program) * (1 - 1e-12)


@given(step_programs(min_operators=1), st.integers(2, 5))
def test_equal_ranks_are_folded_and_nothing_changes(program, copies):
    def repeated(duration_s):
        return duration_s * copies if isinstance(duration_s, tuple) else duration_s

    ops = tuple(replace(op, duration_s=repeated(op.duration_s)) for op in program.operators)
    folded = step_times(replace(program, operators=ops, n_ranks=program.n_ranks * copies))
    assert folded.end_s.tolist() == np.tile(step_times(program).end_s, copies).tolist()


@given(step_programs(min_operators=1), st.data())
def test_more_work_never_ends_earlier(program, data):
    i = data.draw(st.integers(0, len(program.operators) - 1))
    more_s = data.draw(times_s)
    longer = tuple(float(d) + more_s for d in program.durations_s[i])
    ops = list(program.operators)
    ops[i] = replace(ops[i], duration_s=longer)
    slower = step_times(replace(program, operators=tuple(ops)))
    assert np.all(slower.end_s >= step_times(program).end_s * (1 - 1e-12))


@given(step_programs(min_operators=2), st.data())
def test_one_more_dependency_never_ends_earlier(program, data):
    i = data.draw(st.integers(1, len(program.operators) - 1))
    ops = list(program.operators)
    ops[i] = replace(ops[i], deps=(*ops[i].deps, data.draw(st.integers(0, i - 1))))
    slower = step_times(replace(program, operators=tuple(ops)))
    assert np.all(slower.end_s >= step_times(program).end_s * (1 - 1e-12))


@given(contended_programs())
def test_spans_of_a_stream_never_overlap_and_dependencies_hold(program):
    times = step_times(program)
    slack_s = 1e-12 * times.makespan_s
    for rank in range(program.n_ranks):
        free_s = dict.fromkeys(Stream, 0.0)
        for i, op in enumerate(program.operators):
            start_s, end_s = times.start_s[i, rank], times.end_s[i, rank]
            assert free_s[op.stream] <= start_s <= end_s
            assert all(times.end_s[dep, rank] <= start_s + slack_s for dep in op.deps)
            free_s[op.stream] = end_s


@given(contended_programs())
def test_collectives_start_together(program):
    times = step_times(program)
    for i, op in enumerate(program.operators):
        if op.collective:
            assert times.start_s[i] == pytest.approx(np.full(program.n_ranks, times.start_s[i, 0]), rel=1e-12)


@given(contended_programs())
def test_busy_time_fits_the_streams_and_energy_of_spans_is_the_total(program):
    run = run_step(program)
    busy_s = sum(span.end_s - span.start_s for span in run.spans)
    n_streams = len({op.stream for op in program.operators})
    assert busy_s <= n_streams * program.n_ranks * run.makespan_s * (1 + 1e-12)
    total_j = program.n_ranks * sum(op.energy_j for op in program.operators)
    assert sum(span.energy_j for span in run.spans) == pytest.approx(total_j)


@given(contended_programs())
def test_the_same_program_runs_the_same(program):
    assert run_step(program) == run_step(program)


def test_a_run_lists_spans_in_start_order_with_their_tallies():
    run = run_step(overlapped_step())
    assert run.n_ranks == 2
    assert [span.start_s for span in run.spans] == sorted(span.start_s for span in run.spans)
    first = run.spans[0]
    assert (first.name, first.rank, first.stream, first.component) == ("attn", 0, "compute", "attention")
    assert (first.bound, first.traffic_bytes, first.energy_j) == ("memory", 3e6, 3.0)


def test_the_emitted_decode_graph_on_uneven_ranks_lasts_as_long_as_its_longest_path():
    graph = load_graph("deepseek-v3", "decode")
    blocks = [
        TimedBlock(block.name, block.repeat, tuple(timed(op, i) for i, op in enumerate(block.operators)))
        for block in graph.blocks
    ]
    program = StepProgram(unroll(blocks), n_ranks=3)
    assert len(program.operators) == len(graph.instances())
    assert step_times(program).makespan_s == pytest.approx(float(longest_path_s(program)), rel=1e-12)


def timed(op, index):
    """The operator at some time; experts take longer on later ranks, and then meet."""
    experts = op.kind == "moe_experts"
    duration_s = (1e-5, 2e-5, 4e-5) if experts else 1e-6 * (index + 1)
    return operator(op.name, op.stream, duration_s, op.deps, collective=op.kind == "add")


def test_an_empty_step_lasts_as_long_as_its_host():
    run = run_step(StepProgram((), n_ranks=2, host_floor_s=1e-3))
    assert (run.spans, run.makespan_s) == ((), 1e-3)
