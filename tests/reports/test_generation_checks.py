from model_graphs.configs import resolve_model
from model_graphs.tiers import cached_layers
from reports.audit_checks import Ruling
from reports.generation_checks import SpeculationCheck, TieredCacheCheck

V3_BYTES_A_TOKEN = 61 * 576 * 2


def tiered(fraction: float) -> TieredCacheCheck:
    return TieredCacheCheck(
        name="tiered_cache", model="deepseek-v3", system="h100_sxm", context=2048, device_fraction=fraction
    )


def test_a_step_fetches_about_what_the_device_does_not_hold() -> None:
    """A new token opens page 33 of each layer; the device has room for 16, so 17 come, give or take one."""
    check, whole, page = tiered(0.5), 2048 * V3_BYTES_A_TOKEN, 64 * 576 * 2
    layers = cached_layers(resolve_model("deepseek-v3").blueprint, 2)
    assert abs(check._fetched(layers, whole // 2) - 17 * 61 * page) <= page
    finding = check.run()
    assert finding.ruling is Ruling.SUPPORTED
    assert "143.9 MB of cache" in finding.reason


def speculation(ratio: float) -> SpeculationCheck:
    return SpeculationCheck(
        name="speculation",
        model="deepseek-r1",
        system="h200_sxm",
        gpus=8,
        precision="fp8",
        acceptance=(0.85, 0.9),
        claimed_ratio=ratio,
    )


def test_one_draft_a_step_never_explains_a_factor_of_two() -> None:
    finding = speculation(2.0).run()
    assert finding.ruling is Ruling.CONTRADICTED
    assert finding.factor is not None
    assert finding.factor > 1


def test_a_gain_below_what_kept_drafts_give_is_plausible() -> None:
    assert speculation(1.1).run().ruling is Ruling.PLAUSIBLE
