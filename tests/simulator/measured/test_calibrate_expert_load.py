"""The fit of the exponent: a known least of losses, and an interval over deployments."""

import numpy as np
import pytest

from simulator.measured.calibrate_expert_load import EXPONENTS, best_exponent, with_interval

pytest.importorskip("scipy")


@pytest.mark.parametrize("truth", [0.95, 1.15, 1.6])
def test_the_least_of_a_parabola_is_found_between_the_exponents(truth: float) -> None:
    losses = [0.08 + 0.02 * (alpha - truth) ** 2 for alpha in EXPONENTS]
    assert best_exponent(losses) == pytest.approx(truth, abs=0.02)


def test_deployments_that_disagree_give_an_interval_around_their_mean() -> None:
    # each deployment's rows are best at its own exponent; a mean of parabolas is one about the mean
    own = np.linspace(0.9, 1.5, 13)
    spreads = [
        {f"{truth:.2f}": np.full(10, 0.08 + 0.02 * (alpha - truth) ** 2) for truth in own}
        for alpha in EXPONENTS
    ]
    best, low, high = with_interval(spreads)
    assert best == pytest.approx(own.mean(), abs=0.02)
    spread = 1.645 * own.std() / np.sqrt(len(own))
    assert (best - low, high - best) == pytest.approx((spread, spread), rel=0.35)


def test_deployments_that_agree_leave_no_doubt() -> None:
    spreads = [{str(k): np.full(5, abs(alpha - 1.01)) for k in range(8)} for alpha in EXPONENTS]
    best, low, high = with_interval(spreads)
    assert low == best == high
