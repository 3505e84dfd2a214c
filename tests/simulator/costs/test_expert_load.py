import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_specs.records.errors import InputError
from simulator.costs.expert_load import RoutingLaw, ends_of_law, expert_load, fitted_exponent, routing_law


def test_balanced_load_by_hand() -> None:
    # 64 tokens x 8 experts over 8 ranks of 32: 64 rows a rank, 2 an expert; one tile of 16, 64 or 128 rows
    load = expert_load(np.array([64.0]), 256, 8, 8, "balanced")
    assert (load.rows[0], load.active[0]) == (64, 32)
    assert load.tiles[0].tolist() == [32, 32, 32]
    # 8192 tokens: 8192 rows a rank, 256 an expert: 16, 4 and 2 tiles each
    load = expert_load(np.array([8192.0]), 256, 8, 8, "balanced")
    assert load.tiles[0].tolist() == [32 * 16, 32 * 4, 32 * 2]


def test_one_rank_holds_every_row() -> None:
    tokens = np.array([1.0, 16.0, 48.0, 4096.0])
    load = expert_load(tokens, 256, 8, 1, "power_law_1.01")
    np.testing.assert_allclose(load.rows, tokens * 8, rtol=1e-9)


def test_the_busiest_rank_has_more_than_its_share() -> None:
    skewed = expert_load(np.array([4096.0]), 256, 8, 8, "power_law_1.2")
    assert skewed.rows[0] > 1.2 * 4096 * 8 / 8


@settings(deadline=None)  # the first call of a routing tabulates it
@given(tokens=st.integers(1, 200_000), moe_ep=st.sampled_from([1, 2, 8, 32]))
def test_load_stays_inside_its_limits(tokens: int, moe_ep: int) -> None:
    load = expert_load(np.array([float(tokens)]), 256, 8, moe_ep, "power_law_1.01")
    assert load.rows[0] <= tokens * 8 * (1 + 1e-9)
    assert load.active[0] <= 256 / moe_ep * (1 + 1e-9)
    assert load.rows[0] >= tokens * 8 / moe_ep * 0.95


def test_load_is_the_same_in_every_call() -> None:
    first, second = (expert_load(np.array([77.0]), 128, 4, 4, "power_law_1.01").rows for _ in range(2))
    assert first.tolist() == second.tolist()


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be balanced, power_law or power_law_ALPHA.*; given zipf"):
        expert_load(np.array([1.0]), 8, 2, 1, "zipf")


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("balanced", None),
        ("power_law_0.5", RoutingLaw(0.5)),
        ("power_law_1.01_eplb", RoutingLaw(1.01, by_load=True)),
        ("power_law_1.2_eplb32", RoutingLaw(1.2, by_load=True, copies=32)),
    ],
)
def test_names_of_laws(name: str, law: RoutingLaw | None) -> None:
    assert routing_law(name) == law
    assert ends_of_law(name) == ()  # what is stated has no interval


def test_a_law_without_an_exponent_has_the_fitted_one_and_both_ends_of_its_interval() -> None:
    fitted = fitted_exponent()
    assert fitted.low.value < fitted.exponent.value < fitted.high.value
    assert routing_law("power_law_eplb8") == RoutingLaw(fitted.exponent.value, by_load=True, copies=8)
    ends = [routing_law(name) for name in ends_of_law("power_law_eplb8")]
    assert ends == [RoutingLaw(end.value, by_load=True, copies=8) for end in (fitted.low, fitted.high)]


@pytest.mark.parametrize("tokens", [64.0, 512.0, 4096.0, 32768.0])
def test_placing_experts_by_load_and_copying_them_even_out_the_ranks(tokens: float) -> None:
    laws = ("power_law_1.2", "power_law_1.2_eplb", "power_law_1.2_eplb32")
    plain, placed, copied = (expert_load(np.array([tokens]), 256, 8, 8, law).rows[0] for law in laws)
    assert copied <= placed < plain
    assert copied >= tokens * 8 / 8 * 0.999  # no rank can have less than the mean and be the busiest


def test_one_rank_has_nothing_to_even_out() -> None:
    laws = ("power_law_1.2", "power_law_1.2_eplb")
    plain, placed = (expert_load(np.array([512.0]), 64, 4, 1, law) for law in laws)
    np.testing.assert_allclose(placed.rows, plain.rows)
    np.testing.assert_allclose(placed.active, plain.active)
    np.testing.assert_allclose(placed.tiles, plain.tiles)


def test_many_tokens_are_dealt_evenly_where_experts_lie_by_load() -> None:
    # chance is the root of 32,768 rows a rank, under a hundredth
    assert expert_load(np.array([32768.0]), 256, 8, 8, "power_law_1.2_eplb").rows[0] / 32768 < 1.03
