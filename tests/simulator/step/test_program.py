import pytest

from hardware_specs.records.errors import InputError
from model_graphs.graph import Stream
from simulator.step.program import (
    Link,
    StepProgram,
    TimedBlock,
    launched_once,
    launched_one_by_one,
    unroll,
)
from step.programs import operator, overlapped_step

COMPUTE = Stream.COMPUTE


def block(name, repeat, *deps):
    return TimedBlock(
        name, repeat, tuple(operator(f"op{i}", COMPUTE, 1.0, dep) for i, dep in enumerate(deps))
    )


def test_unrolling_repeats_blocks_and_links_each_to_the_end_of_the_one_before():
    ops = unroll([block("embed", 1, (-1,)), block("layer", 2, (-1,), (0,), (-1, 1))])
    assert [op.name for op in ops] == [
        "embed.0.op0",
        "layer.0.op0",
        "layer.0.op1",
        "layer.0.op2",
        "layer.1.op0",
        "layer.1.op1",
        "layer.1.op2",
    ]
    assert [op.deps for op in ops] == [(), (0,), (1,), (0, 2), (3,), (4,), (3, 5)]


def test_a_block_may_not_depend_on_anything_but_itself_and_the_end_of_the_block_before():
    for deps in ((-2,), (1,), (0,)):
        with pytest.raises(InputError, match=r"layer\[0\] op0  must depend on earlier operators"):
            unroll([block("layer", 2, deps, ())])


def test_durations_are_broadcast_to_ranks():
    program = StepProgram((operator("a", COMPUTE, 2.0), operator("b", COMPUTE, (1.0, 3.0))), n_ranks=2)
    assert program.durations_s.tolist() == [[2.0, 2.0], [1.0, 3.0]]
    assert StepProgram((), n_ranks=2).durations_s.shape == (0, 2)


def test_without_capture_every_operator_waits_for_its_own_launch_with_capture_for_one():
    ops = overlapped_step().operators
    assert StepProgram(launched_one_by_one(ops, 1.0)).launched_s.tolist() == [1, 2, 3, 4, 5, 6]
    assert StepProgram(launched_once(ops, 1.0)).launched_s.tolist() == [1, 1, 1, 1, 1, 1]


def test_all_problems_of_a_program_are_reported_at_once():
    ops = (
        operator("negative", COMPUTE, -1.0),
        operator("early", COMPUTE, 1.0, (1,)),
        operator("short", COMPUTE, (1.0,)),
        operator("lost", COMPUTE, 1.0, link="nvlnk"),
        operator("unlaunchable", COMPUTE, 1.0, launch_s=float("nan")),
    )
    with pytest.raises(InputError) as caught:
        StepProgram(ops, n_ranks=2, host_floor_s=float("inf"), links=(Link("nvlink"), Link("bad", 0)))
    assert [str(problem) for problem in caught.value.problems] == [
        "host_floor_s  must be a finite time of at least 0 s; given inf",
        "links.bad.ranks_per_link  must be at least 1; given 0",
        "operators[0] negative  duration must be a finite time of at least 0 s; given -1.0",
        "operators[1] early  must depend on earlier operators only; given (1,)",
        "operators[2] short  needs a duration for each of 2 ranks; given 1",
        "operators[3] lost  must name a link of the program; given nvlnk; did you mean nvlink?",
        "operators[4] unlaunchable  launch must be a finite time of at least 0 s; given nan",
    ]
