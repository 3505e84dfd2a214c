from dataclasses import replace

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.blueprint import AttentionSpec, Blueprint, FeedForwardSpec, LayerSpec
from model_graphs.configs import resolve_model
from model_graphs.graph_io import load_graph
from model_graphs.precision import apply_precision
from model_graphs.tiers import CachedLayer, CachePolicy, Tier, TierName, cached_layers
from model_graphs.totals import cache_groups


def test_layers_of_a_shipped_model_cache_what_its_groups_say():
    record = resolve_model("deepseek-v3")
    groups = cache_groups(apply_precision(load_graph(record, "decode"), None, "bf16", {"bf16"}))
    layers = cached_layers(record.blueprint, element_bytes=2)
    assert layers == (CachedLayer(576 * 2),) * 61
    assert sum(layer.bytes_per_token for layer in layers) == sum(group.bytes_per_token for group in groups)


def test_grouped_attention_caches_keys_and_values_of_its_key_heads_inside_its_window():
    """Two heads of keys and values, 8 wide, two bytes an element: 2 x 2 x 8 x 2."""
    attention = AttentionSpec(heads=4, kv_heads=2, head_dim=8, rope=None, scale=1.0)
    layers = tuple(
        LayerSpec("layer", replace(attention, window=window), FeedForwardSpec(16)) for window in (128, None)
    )
    blueprint = Blueprint(32, 32, layers, 1e-6, 64)
    assert cached_layers(blueprint, element_bytes=2) == (CachedLayer(64, 128), CachedLayer(64))


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
