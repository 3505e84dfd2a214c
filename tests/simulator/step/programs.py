"""Random and hand-made step programs for the tests of the step engine."""

from hypothesis import strategies as st

from model_graphs.graph import Stream
from simulator.step.program import Link, StepProgram, TimedOperator

times_s = st.integers(0, 10**6).map(lambda x: x * 1.1e-6)


def operator(name, stream, duration_s, deps=(), **more):
    """A timed operator whose kind and component are its stream's, unless said otherwise."""
    more = {"kind": stream.value, "component": stream.value, **more}
    return TimedOperator(name=name, stream=stream, duration_s=duration_s, deps=deps, **more)


@st.composite
def operators(draw, index, n_ranks, launched, links):
    """One random operator at this place in a program."""
    return operator(
        f"op{index}",
        draw(st.sampled_from(Stream)),
        draw(times_s | st.tuples(*[times_s] * n_ranks)),
        tuple(draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else ()),
        collective=draw(st.integers(0, 3)) == 0,
        component=("attention", "moe")[index % 2],
        bound=("memory", "compute", "network")[index % 3],
        energy_j=float(index),
        launch_s=draw(times_s) if launched else 0.0,
        link=draw(st.sampled_from(["", *links])) if links else "",
    )


@st.composite
def step_programs(draw, min_operators=0, links=()):
    """Up to 16 operators on all streams of up to 4 ranks, with collectives, launches and a host floor."""
    n_ranks = draw(st.integers(1, 4))
    n_operators = draw(st.integers(min_operators, 16))
    launched = draw(st.booleans())
    names = [link.name for link in links]
    ops = tuple(draw(operators(i, n_ranks, launched, names)) for i in range(n_operators))
    return StepProgram(ops, n_ranks, draw(st.just(0.0) | times_s), tuple(links))


@st.composite
def contended_programs(draw):
    """Programs with one link of each rank's own and one that ranks share."""
    shared = Link("shared", draw(st.integers(1, 4)))
    return draw(step_programs(links=(Link("own"), shared)))


def overlapped_step(n_ranks=2):
    """A layer with dispatch, experts, combine and a shared expert beside the combine; ms spelled in seconds.

    compute        |attn 3|      |experts 4|shared 2|   |norm 1|
    communication          |disp 2|         |comb 3     |
    """
    compute, communication = Stream.COMPUTE, Stream.COMMUNICATION
    ops = (
        operator(
            "attn", compute, 3e-3, component="attention", bound="memory", energy_j=3.0, traffic_bytes=3e6
        ),
        operator("dispatch", communication, 2e-3, (0,), collective=True, bound="network", energy_j=0.5),
        operator("experts", compute, 4e-3, (1,), component="moe", bound="memory", energy_j=4.0, flop=4e9),
        operator("combine", communication, 3e-3, (2,), collective=True, bound="network", energy_j=0.5),
        operator("shared", compute, 2e-3, (0,), component="moe", bound="compute", energy_j=2.0, flop=2e9),
        operator("norm", compute, 1e-3, (3, 4), component="norm", bound="memory", energy_j=1.0),
    )
    return StepProgram(ops, n_ranks)
