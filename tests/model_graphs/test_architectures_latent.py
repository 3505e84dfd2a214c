"""Configs of latent and sparse attention models, as their `config.json` has them."""

import json
from pathlib import Path

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.blueprint import IndexerSpec, LatentAttentionSpec, MixtureSpec, QueryKeyNorm, Scoring
from model_graphs.config_json import read_config_json
from model_graphs.configs import resolve_model


def figures(key: str) -> dict[str, object]:
    """A shipped model as a `config.json` has it."""
    record = resolve_model(key)
    data = record.config.model_dump(mode="json")
    if data.get("rope_scaling"):
        data["rope_scaling"] = {"type": "yarn", **data["rope_scaling"]}
    return {"architectures": [record.architecture], **data}


def written(folder: Path, data: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(data))
    return path


def mixture(key: str) -> MixtureSpec:
    found = resolve_model(key).blueprint.layers[-1].feed_forward
    assert isinstance(found, MixtureSpec)
    return found


def attention(key: str) -> LatentAttentionSpec:
    found = resolve_model(key).blueprint.layers[-1].mixer
    assert isinstance(found, LatentAttentionSpec)
    return found


def test_v2_scores_groups_by_their_best_expert_and_lite_has_none() -> None:
    v2, lite = mixture("deepseek-v2"), mixture("deepseek-v2-lite")
    assert (v2.scoring, v2.groups, v2.topk_groups, v2.scored_of_group) == (Scoring.SOFTMAX, 8, 3, 1)
    assert (lite.groups, lite.normalise, lite.scale) == (1, False, 1.0)
    assert attention("deepseek-v2-lite").q_rank is None


def test_v32_and_glm_5_have_an_indexer_in_every_layer() -> None:
    for key, heads, neighbours in (("deepseek-v3.2", 64, False), ("glm-5", 32, True)):
        blueprint = resolve_model(key).blueprint
        wanted = IndexerSpec(heads, 128, 2048, neighbours)
        layers = (*blueprint.layers, *blueprint.mtp_layers)
        assert {layer.mixer.indexer for layer in layers} == {wanted}


def test_glm_45_normalises_heads_and_air_does_not() -> None:
    norms = [resolve_model(key).blueprint.layers[0].mixer.norm for key in ("glm-4.5", "glm-4.5-air")]
    assert norms == [QueryKeyNorm.HEAD, QueryKeyNorm.NONE]


def test_kimi_k25_is_read_from_inside_text_config(tmp_path: Path) -> None:
    inside = figures("kimi-k2.5")
    names = inside.pop("architectures")
    path = written(tmp_path, {"architectures": names, "text_config": inside, "vision_config": {"a": 1}})
    assert resolve_model(str(path)).key == "kimi-k2.5"


def test_a_foreign_language_model_inside_text_config_is_refused(tmp_path: Path) -> None:
    inside = figures("kimi-k2.5") | {"scoring_func": "softmax"}
    with pytest.raises(InputError, match="must be 'sigmoid'"):
        read_config_json(
            written(tmp_path, {"architectures": inside.pop("architectures"), "text_config": inside})
        )


def test_glm_5_has_its_base_under_rope_parameters(tmp_path: Path) -> None:
    data = figures("glm-5")
    del data["rope_scaling"]
    rope = {"rope_type": "default", "rope_theta": data.pop("rope_theta")}
    assert resolve_model(str(written(tmp_path, data | {"rope_parameters": rope}))).key == "glm-5"


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("glm-5", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1}}, "must be 'default'"),
        ("glm-5", {"indexer_types": ["full", "shared"]}, "its own indexer"),
        ("glm-5", {"index_topk_freq": 4}, "must be 1"),
        ("deepseek-v2", {"norm_topk_prob": True}, "must be False"),
        ("deepseek-v2", {"topk_method": "noaux_tc"}, "topk_method"),
        ("deepseek-v3.2", {"index_topk": 0}, "index_topk"),
        ("glm-4.5", {"n_group": 7}, "must divide n_routed_experts"),
        ("glm-4.5", {"first_k_dense_replace": 93}, "at most num_hidden_layers"),
    ],
)
def test_what_the_implementation_has_no_form_of_is_refused(
    tmp_path: Path, key: str, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_config_json(written(tmp_path, figures(key) | change))
