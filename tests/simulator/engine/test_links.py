import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from simulator.engine.links import SharedLink


def ends(flows):
    """When each flow, given as (start, time it takes alone), ends on one shared link."""
    env = simpy.Environment()
    link = SharedLink(env)
    found = [None] * len(flows)

    def flow(i, start_s, alone_s):
        yield env.timeout(start_s)
        yield link.carry(alone_s)
        found[i] = env.now

    for i, (start_s, alone_s) in enumerate(flows):
        env.process(flow(i, start_s, alone_s))
    env.run()
    return found


def test_a_lone_flow_takes_its_own_time():
    assert ends([(1.0, 3.0), (10.0, 2.0)]) == [4.0, 12.0]


def test_equal_flows_that_start_together_end_together():
    assert ends([(0.0, 2.0)] * 4) == [8.0] * 4


def test_a_short_flow_slows_a_long_one_by_its_own_time():
    # both at half speed until the short one has its 1 s at t = 2; then the long one needs 3 - 1 = 2 s more
    assert ends([(0.0, 3.0), (0.0, 1.0)]) == [4.0, 2.0]


def test_a_latecomer_shares_only_what_is_left():
    # alone 0..2 (2 of 4 done), shared 2..4 (3 done; latecomer's 1 s done), alone 4..5
    assert ends([(0.0, 4.0), (2.0, 1.0)]) == [5.0, 4.0]


def test_three_overlapping_flows_by_hand():
    # 0..1 A alone (1 of 3); 1..3 A and B (A 2, B 1 of 2); 3..6 all three (A, B end; C 1 of 2); then C to 7
    assert ends([(0.0, 3.0), (1.0, 2.0), (3.0, 2.0)]) == pytest.approx([6.0, 6.0, 7.0], rel=1e-15)


def test_an_empty_flow_ends_where_it_starts():
    assert ends([(0.0, 5.0), (1.0, 0.0)]) == [5.0, 1.0]


flow_lists = st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(1e-6, 5.0)), min_size=1, max_size=12)


@given(flow_lists)
def test_the_link_works_at_full_speed_while_any_flow_is_on_it(flows):
    # a work-conserving server ends its last flow when a first-come-first-served one would
    clock_s = 0.0
    for start_s, alone_s in sorted(flows):
        clock_s = max(clock_s, start_s) + alone_s
    assert max(ends(flows)) == pytest.approx(clock_s, rel=1e-12)


@given(flow_lists)
def test_no_flow_is_faster_than_alone_or_slower_than_an_equal_share(flows):
    for (start_s, alone_s), end_s in zip(flows, ends(flows), strict=True):
        assert alone_s * (1 - 1e-9) <= end_s - start_s + 1e-12
        assert end_s - start_s <= alone_s * len(flows) * (1 + 1e-9) + 1e-12
