from dataclasses import replace

import pytest
import torch
from tiny import positions_of

from hardware_specs.records.errors import InputError
from model_graphs.blueprint import (
    AttentionSpec,
    Blueprint,
    EncoderBlueprint,
    FeedForwardSpec,
    LayerSpec,
    RopeSpec,
)
from model_graphs.configs import list_models, resolve_model
from reference_impl.decoder import build_model
from reference_impl.narrow import narrow, randomise

ONE_OF_EACH = {
    record.architecture: record
    for record in list_models()
    if not isinstance(record.blueprint, EncoderBlueprint)
}


@pytest.mark.parametrize("record", ONE_OF_EACH.values(), ids=ONE_OF_EACH)
def test_every_architecture_runs_narrow_with_all_its_kinds_of_layers(record):
    small = narrow(record.blueprint)
    assert {layer.name for layer in small.layers} == {layer.name for layer in record.blueprint.layers}
    assert len(small.mtp_layers) == len(record.blueprint.mtp_layers)
    assert small.max_positions == record.blueprint.max_positions
    model = build_model(small)
    assert sum(parameter.numel() for parameter in model.parameters()) < 3e6
    randomise(model, seed=0)
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        logits, _, _ = model(ids, positions_of(ids))
    assert torch.isfinite(logits).all()
    assert logits.std() > 0.1


def test_layers_keep_their_order():
    names = [layer.name for layer in narrow(resolve_model("deepseek-v3").blueprint).layers]
    assert names == ["dense_layer", "dense_layer", "moe_layer", "moe_layer"]


def test_grouped_heads_keep_their_proportion_and_scores_their_size():
    """64 heads of 64 over 8, half of each rotated: 4 of 16 over one (4 x 8 / 64, at least 1), 8 rotated."""
    spec = AttentionSpec(
        heads=64, kv_heads=8, head_dim=64, rope=RopeSpec(32, 1e4), scale=64**-0.5, window=128
    )
    layers = (LayerSpec("layer", spec, FeedForwardSpec(4096)),)
    small = narrow(Blueprint(1000, 4096, layers, 1e-6, 64)).layers[0].mixer
    wanted = {"heads": 4, "kv_heads": 1, "head_dim": 16, "rope": RopeSpec(8, 1e4)}
    assert replace(small, scale=0.0) == replace(spec, scale=0.0, **wanted)
    assert small.scale == pytest.approx(16**-0.5)


def test_weights_come_from_the_seed_alone():
    first, again, other = (build_model(narrow(resolve_model("deepseek-v3").blueprint)) for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        randomise(model, seed)
    assert all(torch.equal(x, y) for x, y in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_what_is_computed_is_not_drawn():
    model = build_model(narrow(resolve_model("bloom-176b").blueprint))
    before = model.layers[0].self_attn.core.slopes.clone()
    randomise(model, seed=1)
    assert torch.equal(model.layers[0].self_attn.core.slopes, before)


def test_an_encoder_is_no_decoder():
    with pytest.raises(InputError, match="must be that of a decoder"):
        build_model(resolve_model("bert-base").blueprint)
