import pytest
import torch
from parity import N_DECODED, N_PROMPT, TOLERANCE, in_pieces, make_oracle, mtp_logits, prefill
from tiny import TINY, YARN, distance


@pytest.mark.parametrize("absorbed", [False, True], ids=["naive", "absorbed"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_prefill_equals_transformers(oracle, implementation, absorbed):
    oracle.hf.set_attn_implementation(implementation)
    wanted = oracle.hf(oracle.ids, use_cache=False).logits
    assert distance(prefill(oracle.ours(), oracle.ids, absorbed), wanted) < TOLERANCE


@pytest.mark.parametrize("absorbed", [False, True], ids=["naive", "absorbed"])
@torch.no_grad()
def test_decode_step_by_step_equals_transformers_and_so_does_the_latent_cache(oracle, absorbed):
    ids, steps = oracle.ids, [1] * N_DECODED
    oracle.hf.set_attn_implementation("eager")
    pieces, cache = [], None
    for piece in ids.split([N_PROMPT, *steps], 1):
        out = oracle.hf(piece, past_key_values=cache, use_cache=True)
        pieces.append(out.logits)
        cache = out.past_key_values
    given, caches = in_pieces(oracle.ours(), ids, [N_PROMPT, *steps], absorbed)
    assert distance(given, torch.cat(pieces, 1)) < TOLERANCE
    for mine, theirs in zip(caches, cache.layers, strict=True):
        assert distance(mine, torch.cat([theirs.keys[:, 0], theirs.values[:, 0]], -1)) < TOLERANCE


@pytest.mark.parametrize("absorbed", [False, True], ids=["naive", "absorbed"])
@pytest.mark.parametrize("sizes", [[16, 16], [5, 20, 7], [31, 1], [2] * 16])
def test_chunked_prefill_equals_whole_prefill(oracle, sizes, absorbed):
    given, _ = in_pieces(oracle.ours(), oracle.ids, sizes, absorbed)
    assert distance(given, oracle.logits) < TOLERANCE


@pytest.mark.parametrize("absorbed", [False, True], ids=["naive", "absorbed"])
def test_mtp_equals_transformers(oracle, absorbed):
    assert distance(mtp_logits(oracle.ours(), oracle.ids, absorbed), oracle.mtp_logits) < TOLERANCE


@pytest.mark.parametrize(
    "rope_scaling",
    [None, YARN.model_copy(update={"mscale": 0.707}), YARN.model_copy(update={"mscale_all_dim": 0.0})],
    ids=["no yarn", "unequal mscale", "no mscale_all_dim"],
)
def test_parity_holds_under_other_rotary_settings(rope_scaling):
    other = make_oracle(TINY.model_copy(update={"rope_scaling": rope_scaling}))
    assert distance(prefill(other.ours(), other.ids, False), other.logits) < TOLERANCE
    assert distance(prefill(other.ours(), other.ids, True), other.logits) < TOLERANCE


def test_rotary_tables_of_the_full_config_equal_transformers():
    from parity import hf_config
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from model_graphs.configs import resolve_model
    from reference_impl.parts.rotary import inverse_frequencies

    config = resolve_model("deepseek-v3").config
    wanted, factor = ROPE_INIT_FUNCTIONS["yarn"](hf_config(config), "cpu")
    (rope,) = config.blueprint.ropes
    assert distance(inverse_frequencies(rope), wanted) < 2e-8
    assert rope.scaling.magnitude == factor == 1.0
    wanted_scale = 192**-0.5 * 1.3688879454113936**2
    assert config.blueprint.layers[0].mixer.scale == pytest.approx(wanted_scale, rel=1e-12)


def test_a_missing_tensor_is_named(oracle):
    from hardware_specs.records.errors import InputError
    from reference_impl.decoder import build_model
    from reference_impl.loading import load_main_model

    state = dict(oracle.hf.state_dict())
    del state["model.layers.2.mlp.gate.weight"], state["model.norm.weight"]
    with pytest.raises(InputError) as caught:
        load_main_model(build_model(oracle.config.blueprint), state)
    assert {p.path for p in caught.value.problems} == {"model.layers.2.mlp.gate.weight", "model.norm.weight"}


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(oracle):
    from hardware_specs.records.errors import InputError
    from reference_impl.decoder import build_model
    from reference_impl.loading import load_main_model

    state = dict(oracle.hf.state_dict()) | {"lm_head.weight": torch.zeros(3, 128)}
    with pytest.raises(
        InputError, match=r"lm_head.weight  must have the shape \[512, 128\]; given \[3, 128\]"
    ):
        load_main_model(build_model(oracle.config.blueprint), state)
