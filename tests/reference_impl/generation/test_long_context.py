"""Contexts to 128K tokens and positions to the end of the published range, against `transformers`."""

import pytest
import torch
from parity import hf_config
from small import prompt
from tiny import distance, randomise
from transformers import DeepseekV3ForCausalLM
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3RotaryEmbedding

from model_graphs.architectures.deepseek import DeepSeekV3Config
from model_graphs.configs import resolve_model
from model_graphs.tiers import CachePolicy, Tier, TierName, cached_layers
from reference_impl.decoder import build_model
from reference_impl.generation.generate import prefill
from reference_impl.generation.paged_cache import PagedCache
from reference_impl.loading import load_main_model
from reference_impl.parts.rotary import Rotary

LAST_POSITION = 163_839
TOLERANCE = 1e-5


def test_rotary_tables_to_the_last_position_equal_transformers():
    """Frequencies differ by at most 2e-9 from theirs, an angle so by as much times its position."""
    config = resolve_model("deepseek-v3").config
    positions = torch.tensor([[0, 1, 4095, 4096, 32_767, 131_071, LAST_POSITION]])
    assert config.max_position_embeddings == LAST_POSITION + 1
    theirs = DeepseekV3RotaryEmbedding(hf_config(config))(torch.zeros(1), positions)
    ((cos, sin),) = Rotary(config.blueprint.ropes)(positions, torch.float32)
    allowed = 2e-9 * positions[0, :, None] + 1e-7
    for mine, wanted in zip((cos, sin), theirs, strict=True):
        assert ((mine - wanted[..., : mine.shape[-1]]).abs() <= allowed).all()


def one_layer_config() -> DeepSeekV3Config:
    """One dense layer of one narrow head, with the published positions."""
    narrow = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "first_k_dense_replace": 1,
        "num_attention_heads": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "intermediate_size": 32,
        "num_nextn_predict_layers": 0,
    }
    published = resolve_model("deepseek-v3").config.model_dump()
    return DeepSeekV3Config.model_validate(published | narrow)


def last_logits(n_tokens, chunk_tokens):
    """Of the last token: whole prefill by `transformers`, chunked prefill over a paged cache here."""
    config = one_layer_config()
    torch.manual_seed(0)
    theirs = DeepseekV3ForCausalLM(hf_config(config)).eval()
    theirs.set_attn_implementation("sdpa")
    randomise(theirs)
    model, ids = build_model(config.blueprint), prompt(1, n_tokens, config.vocab_size)
    load_main_model(model, theirs.state_dict())
    with torch.no_grad():
        wanted = theirs(ids, use_cache=False, logits_to_keep=1).logits[:, 0]
    layers = cached_layers(config.blueprint, element_bytes=4)
    with PagedCache(CachePolicy(64, (Tier(TierName.DEVICE),)), layers, 1) as cache:
        given, _ = prefill(model, ids, cache, chunk_tokens)
    return given, wanted


def test_chunked_prefill_of_a_narrow_layer_equals_transformers():
    given, wanted = last_logits(4096, 512)
    assert distance(given, wanted) < TOLERANCE


@pytest.mark.slow
def test_chunked_prefill_of_128k_tokens_equals_whole_prefill_by_transformers():
    given, wanted = last_logits(131_072, 256)
    assert distance(given, wanted) < TOLERANCE
