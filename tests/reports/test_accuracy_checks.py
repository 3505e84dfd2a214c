import pytest

from reports import accuracy_checks
from reports.accuracy_checks import (
    CompensationCheck,
    DriftCheck,
    ProportionCheck,
    PruningCheck,
    SwitchCheck,
    TransformTrafficCheck,
    ZeroSkippingCheck,
)
from reports.accuracy_study import committed_study
from reports.audit_checks import Ruling


def test_a_difference_is_supported_by_enough_questions_and_left_open_by_fewer() -> None:
    enough = ProportionCheck(name="proportions", first=0.892, second=0.917, n=1273).run()
    fewer = ProportionCheck(name="proportions", first=0.892, second=0.917, n=400).run()
    assert (enough.ruling, fewer.ruling) == (Ruling.SUPPORTED, Ruling.PLAUSIBLE)
    assert enough.predicted is not None
    assert 0 < enough.predicted.low < 0.025 < enough.predicted.high


def test_a_drift_is_ruled_on_only_as_far_as_the_proxy_goes() -> None:
    effect = committed_study()["effects"]["drift_percent_of_loss"]
    near = DriftCheck(name="proxy_drift", percent=effect["value"], context_tokens=32768).run()
    far = DriftCheck(name="proxy_drift", percent=effect["high"] + 5, context_tokens=32768).run()
    assert (near.ruling, far.ruling) == (Ruling.PLAUSIBLE, Ruling.NOT_TESTABLE)
    assert "not DeepSeek-V3 accuracy" in near.reason


def test_compensation_is_supported_only_by_an_interval_above_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    study = dict(committed_study())
    none = {"value": 1e-6, "low": -1e-6, "high": 3e-6, "passages": 12}
    some = {"value": 1e-5, "low": 1e-6, "high": 3e-5, "passages": 12}
    for under_fp8, ruling in ((none, Ruling.PLAUSIBLE), (some, Ruling.SUPPORTED)):
        study["effects"] = {"compensation": some, "compensation_under_fp8": under_fp8}
        monkeypatch.setattr(accuracy_checks, "committed_study", lambda: study)
        assert CompensationCheck(name="proxy_compensation").run().ruling is ruling


def test_pruning_is_held_against_what_is_deployed_and_says_by_how_much_it_costs_more() -> None:
    model, name = "deepseek-r1", "proxy_pruning"
    finding = PruningCheck(name=name, model=model, fractions=(0.5, 0.9), published=0.6).run()
    assert finding.ruling is Ruling.CONTRADICTED
    assert finding.factor is not None
    assert finding.factor > 1
    published = PruningCheck(name=name, model=model, fractions=(0.5,), published=0.6).run()
    assert published.ruling is Ruling.PLAUSIBLE
    as_good = PruningCheck(name=name, model=model, fractions=(0.9,), published=0.6, baseline="pruned_0.9")
    assert as_good.run().ruling is Ruling.PLAUSIBLE


def test_autocast_moves_four_times_the_bytes_of_weights_in_bf16() -> None:
    finding = TransformTrafficCheck(name="transform_traffic", model="deepseek-r1", plan="autocast").run()
    # read in fp32, written and read again in bf16: 8 bytes for 2
    assert "moves 4.0" in finding.reason or "moves 3.9" in finding.reason


def test_a_gain_above_the_bound_by_traffic_is_contradicted() -> None:
    # 16 bits of which half stay and one of bitmap: 1 / (0.5 + 1 / 16) = 1.78
    within = ZeroSkippingCheck(name="zero_skipping", gain=1.7, fractions=(0.5,)).run()
    above = ZeroSkippingCheck(name="zero_skipping", gain=2.0, fractions=(0.5,)).run()
    assert within.ruling is Ruling.PLAUSIBLE
    assert above.factor == pytest.approx(2.0 / (16 / 9))


def test_a_switch_names_its_time_its_memory_and_the_published_types() -> None:
    check = SwitchCheck(
        name="precision_switch",
        model="deepseek-r1",
        system="h200_sxm",
        gpus=8,
        before="fp8",
        after="fp8_int8",
    )
    finding = check.run()
    assert finding.predicted is not None
    # 654 GB of routed experts read and as much written over 8 x 4.8 TB/s
    assert 0.03 < finding.predicted.value < 0.08
    assert "checkpoints known here are stored in fp4, fp8" in finding.reason
