from hypothesis import given
from step.programs import operator, overlapped_step, step_programs

from model_graphs.graph import Stream
from simulator.engine.segments import cut
from simulator.step.program import Link, StepProgram

COMPUTE, COMMUNICATION = Stream.COMPUTE, Stream.COMMUNICATION


def shape(program):
    return [[segment.operators for segment in segments] for segments in cut(program)]


def test_a_stream_on_its_own_is_one_segment():
    ops = tuple(operator(f"op{i}", COMPUTE, 1.0) for i in range(5))
    assert shape(StepProgram(ops)) == [[(0, 1, 2, 3, 4)]]


def test_cuts_are_where_another_stream_is_awaited_or_waits():
    assert shape(overlapped_step()) == [[(0,), (2,), (4,), (5,)], [(1,), (3,)]]


def test_a_flow_has_a_segment_of_its_own():
    ops = tuple(operator(f"op{i}", COMPUTE, 1.0, link="nvlink" if i == 1 else "") for i in range(4))
    assert shape(StepProgram(ops, links=(Link("nvlink"),))) == [[(0,), (1,), (2, 3)]]


def test_what_a_stream_has_already_waited_for_cuts_nothing():
    ops = (
        operator("a", COMPUTE, 1.0),
        operator("b", COMPUTE, 1.0),
        operator("c", COMMUNICATION, 1.0, (1,)),
        operator("d", COMMUNICATION, 1.0, (0,)),
    )
    assert shape(StepProgram(ops)) == [[(0, 1)], [(2, 3)]]


@given(step_programs())
def test_segments_hold_every_operator_once_and_in_order(program):
    for segments in cut(program):
        inside = [i for segment in segments for i in segment.operators]
        stream = program.operators[inside[0]].stream
        assert inside == [i for i, op in enumerate(program.operators) if op.stream is stream]
    assert {op.stream for op in program.operators} == {
        program.operators[each[0].operators[0]].stream for each in cut(program)
    }
