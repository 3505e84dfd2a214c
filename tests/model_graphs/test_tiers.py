import pytest

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model
from model_graphs.tiers import CachedLayer, CachePolicy, Tier, TierName, cached_layers
from model_graphs.totals import CacheGroup, cache_groups


def test_layers_of_a_shipped_model_cache_what_its_groups_say():
    groups = cache_groups(resolve_model("deepseek-v3").config, "bf16")
    layers = cached_layers(groups)
    assert layers == (CachedLayer(576 * 2),) * 61
    assert sum(layer.bytes_per_token for layer in layers) == sum(group.bytes_per_token for group in groups)


def test_groups_are_laid_out_one_after_the_other():
    groups = (CacheGroup("full", 1, 64), CacheGroup("sliding", 2, 32, window=128))
    assert cached_layers(groups) == (CachedLayer(64), CachedLayer(16, 128), CachedLayer(16, 128))


def test_everything_wrong_with_a_policy_is_said_at_once():
    tiers = (Tier(TierName.HOST, 0), Tier(TierName.DEVICE))
    with pytest.raises(InputError) as caught:
        CachePolicy(0, tiers)
    assert [problem.path for problem in caught.value.problems] == [
        "page_tokens",
        "tiers",
        "tiers.host.capacity_bytes",
    ]
    assert "given host, device" in str(caught.value)


@pytest.mark.parametrize("names", [(), ("host",), ("device", "device"), ("device", "disk", "host")])
def test_tiers_out_of_order_are_refused(names):
    with pytest.raises(InputError, match="must begin with device"):
        CachePolicy(16, tuple(Tier(TierName(name)) for name in names))
