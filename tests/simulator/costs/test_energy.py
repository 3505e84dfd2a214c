from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_specs.library import load_device
from hardware_specs.records.evidence import Grade
from simulator.costs.energy import power_model

RATE = st.floats(0, 1e16)


def test_power_by_hand_on_h100() -> None:
    # 349 W + 60 pJ/B x 2 TB/s + 0.96 pJ/FLOP x 100 TFLOP/s = 349 + 120 + 96 = 565 W
    model = power_model(load_device("h100_sxm"))
    assert model.power_w(100e12, 2e12) == pytest.approx(565)
    assert not model.is_capped(100e12, 2e12)
    # 2 ms of it: 1.13 J
    assert model.energy_j(100e12 * 2e-3, 2e12 * 2e-3, 2e-3) == pytest.approx(1.13)


def test_the_board_limit_caps_the_power_and_says_so() -> None:
    model = power_model(load_device("h100_sxm"))
    assert model.power_w(900e12, 3e12) == 700
    assert model.is_capped(900e12, 3e12)


def test_no_time_takes_no_energy() -> None:
    assert power_model(load_device("b200_sxm")).energy_j(0, 0, 0) == 0


@pytest.mark.parametrize(
    ("device", "grade"),
    [
        ("h100_sxm", Grade.B),
        ("b200_sxm", Grade.B),
        ("h200_sxm", Grade.C),
        ("gb200", Grade.C),
        ("a100_sxm_80gb", Grade.D),
    ],
)
def test_the_grade_says_where_the_constants_come_from(device: str, grade: Grade) -> None:
    assert power_model(load_device(device)).grade is grade


def test_a_device_that_nobody_measured_is_grade_d_and_the_widest() -> None:
    known = load_device("h100_sxm")
    stranger = power_model(replace(known, key="h999"))
    assert stranger.grade is Grade.D
    assert stranger.log_half_width > power_model(load_device("a100_sxm_80gb")).log_half_width
    assert 0 < stranger.power_w(0, 0) < known.tdp_w.value


@given(flop=RATE, traffic=st.floats(0, 1e13), more=st.floats(1, 10))
def test_more_work_in_the_same_time_never_takes_less_power(flop: float, traffic: float, more: float) -> None:
    model = power_model(load_device("b200_sxm"))
    here = model.power_w(flop, traffic)
    assert here <= model.power_w(more * flop, more * traffic) <= model.limit_w
    assert here >= min(model.active_w, model.limit_w)
