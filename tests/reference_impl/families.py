"""Tiny models of every family: our config, the independent implementation with the same random weights.

A family is a row of `FAMILIES`: the name of its architecture and a `config.json` of it, small enough to run.
What differs between `transformers`' spelling of a config and `config.json`'s is said beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from tiny import positions_of, randomise
from torch import Tensor, nn

from model_graphs.architectures import ARCHITECTURES, ModelConfig
from model_graphs.blueprint import Blueprint
from reference_impl.decoder import Decoder, build_model
from reference_impl.loading import load_main_model
from reference_impl.published_names import names_of

N_SEQUENCES, N_TOKENS = 2, 32
PIECES = (20, 10, 1, 1)  # a prefill, a chunk and two decoded tokens

_BASE = {
    "vocab_size": 512,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "factor": 64.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 64,
}
_EXPERTS = {"num_local_experts": 16, "num_experts_per_tok": 4, "intermediate_size": 64}

_LLAMA_4 = {
    "head_dim": 24,
    "intermediate_size": 64,
    "intermediate_size_mlp": 96,
    "num_local_experts": 16,
    "num_experts_per_tok": 1,
    "attention_chunk_size": 12,
    "no_rope_layers": [1, 1, 1, 0],
    "attn_temperature_tuning": True,
    "floor_scale": 8,
    "attn_scale": 0.1,
    "rope_theta": 5e5,
}
_MROPE = {"rope_theta": 1e6, "rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3]}}
_LAYER_NORMED = {
    "vocab_size": 512,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
_PARTLY_ROTATED = {
    "intermediate_size": 256,
    "partial_rotary_factor": 0.5,
    "layer_norm_eps": 1e-5,
    "rope_theta": 1e4,
}
_SMALL_TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1}
_GELU_NEW = {"hidden_act": "gelu_new"}


_NEMOTRON_H = {
    **{key: value for key, value in _BASE.items() if key != "rms_norm_eps"},
    "layer_norm_epsilon": 1e-5,
    "head_dim": 24,
    "intermediate_size": 256,
    "mamba_num_heads": 16,
    "mamba_head_dim": 12,
    "ssm_state_size": 20,
    "n_groups": 8,
    "conv_kernel": 4,
    "use_conv_bias": True,
    "chunk_size": 16,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 64,
    "moe_shared_expert_intermediate_size": 96,
    "moe_latent_size": 40,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 5.0,
}
_QWEN_3_5 = {
    "head_dim": 24,
    "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 12,
    "linear_num_key_heads": 8,
    "linear_num_value_heads": 16,
    "linear_value_head_dim": 20,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 96,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 2, 2],
    },
}


def _with_rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config.json` as `transformers` 5 takes it: theta and scaling in one mapping."""
    known = dict(config)
    scaling = known.pop("rope_scaling", None) or {"rope_type": "default"}
    return known | {"rope_parameters": {**scaling, "rope_theta": known.pop("rope_theta")}}


def _with_partial_rotary(config: Mapping[str, Any]) -> dict[str, Any]:
    known = _with_rope_parameters(config)
    known["rope_parameters"]["partial_rotary_factor"] = known.pop("rotary_dim") / known["head_dim"]
    return known


def _as_gemma_3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Kinds of layers by name, and positions of each kind."""
    known = _with_rope_parameters(config)
    pattern, local = known.pop("sliding_window_pattern"), known.pop("rope_local_base_freq")
    rope = {
        "full_attention": known["rope_parameters"],
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }
    kinds = ["full_attention" if n % pattern == 0 else "sliding_attention" for n in range(1, 5)]
    return known | {"rope_parameters": rope, "layer_types": kinds}


def _beside_vision(config: Mapping[str, Any]) -> dict[str, Any]:
    """The text model's config, and that of a vision tower which takes no part."""
    vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 128}
    known = dict(config)
    tied, theta = known.pop("tie_word_embeddings"), known.pop("rope_theta")
    known["rope_parameters"] = known.pop("rope_scaling") | {"rope_theta": theta, "rope_type": "default"}
    extra = {"deepstack_visual_indexes": [0]}
    return {"text_config": known, "vision_config": vision | extra, "tie_word_embeddings": tied}


def _with_partial_rotary_factor(config: Mapping[str, Any]) -> dict[str, Any]:
    known = _with_rope_parameters(config)
    known["rope_parameters"]["partial_rotary_factor"] = known.pop("partial_rotary_factor")
    return known


_LATENT = {
    **_BASE,
    "num_key_value_heads": 8,
    "q_lora_rank": 48,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "intermediate_size": 256,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 64,
    "n_routed_experts": 16,
    "n_shared_experts": 2,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
    "num_nextn_predict_layers": 0,
    "rope_theta": 1e4,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
}
#: as many heads as make it unlikely that all of them find a token worth nothing, which ties scores
_INDEXER = {"index_n_heads": 16, "index_head_dim": 24, "index_topk": 8}
_GLM = {
    **_BASE,
    **{
        key: _LATENT[key]
        for key in _LATENT
        if key.startswith(("n_", "num_exp", "moe_", "first_", "routed_", "topk_"))
    },
    "head_dim": 24,
    "partial_rotary_factor": 0.5,
    "attention_bias": True,
    "use_qk_norm": True,
    "intermediate_size": 256,
    "norm_topk_prob": True,
    "num_nextn_predict_layers": 0,
    "rope_theta": 1e6,
}
_V2 = {"norm_topk_prob": False, "topk_method": "group_limited_greedy", "routed_scaling_factor": 4.0}


@dataclass(frozen=True)
class Family:
    """A tiny config of an architecture, and how `transformers` is told the same.

    The layers of a `variant` are those of another family: what is exported of it is tested in the slow suite.
    """

    architecture: str
    config: Mapping[str, Any]
    as_transformers: Callable[[Mapping[str, Any]], dict[str, Any]] = _with_rope_parameters
    extra: Mapping[str, Any] = field(default_factory=dict)  # what `transformers` must be told beside it
    variant: bool = False
    masks_by_kind: bool = False  # its forward takes a mask for each kind of layer
    norms_above_one: bool = False  # weights of norms are stored as what they exceed one by

    @property
    def ours(self) -> ModelConfig:
        """The config as a `config.json` of these figures is read."""
        kind = ARCHITECTURES[self.architecture]
        assert not list(kind.foreign(self.config))
        return kind.model_validate(kind.normalised(self.config))

    @property
    def blueprint(self) -> Blueprint:
        """What the tiny model is made of."""
        return self.ours.blueprint

    def independent(self) -> nn.Module:
        """The model of `transformers`, on the default device."""
        kind = getattr(transformers, self.architecture)
        config = kind.config_class(**self.as_transformers(self.config), **self.extra)
        model = kind(config).eval()
        model.set_attn_implementation("eager")
        return model


FAMILIES: Mapping[str, Family] = {
    "llama 3.1": Family(
        "LlamaForCausalLM",
        _BASE | {"intermediate_size": 256, "rope_theta": 5e5, "rope_scaling": _LLAMA3},
    ),
    "llama, tied": Family(
        "LlamaForCausalLM",
        _BASE | {"intermediate_size": 256, "rope_theta": 1e4, "tie_word_embeddings": True, "head_dim": 24},
    ),
    "llama, linear": Family(
        "LlamaForCausalLM",
        _BASE
        | {
            "intermediate_size": 256,
            "rope_theta": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        },
    ),
    "mistral": Family(
        "MistralForCausalLM",
        _BASE | {"intermediate_size": 256, "head_dim": 24, "sliding_window": None, "rope_theta": 1e6},
    ),
    "qwen 2": Family("Qwen2ForCausalLM", _BASE | {"intermediate_size": 256, "rope_theta": 1e6}),
    "qwen 3": Family(
        "Qwen3ForCausalLM", _BASE | {"intermediate_size": 256, "head_dim": 24, "rope_theta": 1e6}
    ),
    "qwen 3 with experts": Family(
        "Qwen3MoeForCausalLM",
        _BASE
        | {
            "intermediate_size": 256,
            "head_dim": 24,
            "moe_intermediate_size": 64,
            "num_experts": 16,
            "num_experts_per_tok": 4,
            "norm_topk_prob": True,
            "rope_theta": 1e6,
        },
    ),
    "gpt-oss": Family(
        "GptOssForCausalLM",
        _BASE
        | _EXPERTS
        | {
            "head_dim": 24,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_theta": 150000.0,
            "rope_scaling": _YARN,
        },
        masks_by_kind=True,
    ),
    "minimax m2": Family(
        "MiniMaxM2ForCausalLM",
        _BASE | _EXPERTS | {"head_dim": 24, "rotary_dim": 12, "rope_theta": 5e6},
        _with_partial_rotary,
        {"bos_token_id": 0, "eos_token_id": 1},
    ),
    "nemotron h": Family(
        "NemotronHForCausalLM",
        _NEMOTRON_H | {"num_hidden_layers": 5, "hybrid_override_pattern": "M-*EM"},
        dict,
        masks_by_kind=True,
    ),
    "qwen 3.5 with experts": Family(
        "Qwen3_5MoeForCausalLM", _BASE | _QWEN_3_5, dict, masks_by_kind=True, norms_above_one=True
    ),
    "mixtral": Family(
        "MixtralForCausalLM", _BASE | _EXPERTS | {"sliding_window": None, "rope_theta": 1e6}, variant=True
    ),
    "gemma": Family(
        "GemmaForCausalLM",
        _BASE | {"intermediate_size": 256, "head_dim": 24, "rope_theta": 1e4, "tie_word_embeddings": True},
        variant=True,
    ),
    "gemma 3": Family(
        "Gemma3ForCausalLM",
        _BASE
        | {
            "intermediate_size": 256,
            "head_dim": 24,
            "sliding_window": 8,
            "sliding_window_pattern": 3,
            "query_pre_attn_scalar": 20,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "tie_word_embeddings": True,
        },
        _as_gemma_3,
    ),
    "phi 3": Family(
        "Phi3ForCausalLM",
        _BASE | {"intermediate_size": 256, "sliding_window": 7, "rope_theta": 1e4},
        extra=_SMALL_TOKENS,
        variant=True,
    ),
    "llama 4": Family(
        "Llama4ForCausalLM",
        _BASE | _LLAMA_4 | {"rope_scaling": _LLAMA3, "interleave_moe_layer_step": 1, "use_qk_norm": True},
        extra=_SMALL_TOKENS,
        variant=True,
    ),
    "llama 4, interleaved": Family(
        "Llama4ForCausalLM",
        _BASE | _LLAMA_4 | {"interleave_moe_layer_step": 2, "use_qk_norm": False},
        extra=_SMALL_TOKENS,
        variant=True,
    ),
    "qwen 2.5 vl": Family(
        "Qwen2_5_VLForConditionalGeneration",
        _BASE | _MROPE | {"intermediate_size": 256},
        _beside_vision,
        variant=True,
    ),
    "qwen 3 vl": Family(
        "Qwen3VLForConditionalGeneration",
        _BASE | _MROPE | {"intermediate_size": 256, "head_dim": 16},
        _beside_vision,
        variant=True,
    ),
    "gpt-j": Family(
        "GPTJForCausalLM",
        {
            "vocab_size": 512,
            "n_embd": 128,
            "n_layer": 3,
            "n_head": 8,
            "n_positions": 64,
            "rotary_dim": 8,
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": False,
        },
        dict,
        _SMALL_TOKENS,
        variant=True,
    ),
    "bloom": Family(
        "BloomForCausalLM",
        {
            "vocab_size": 512,
            "hidden_size": 192,
            "n_layer": 3,
            "n_head": 24,
            "seq_length": 64,
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
        },
        dict,
    ),
    "opt": Family(
        "OPTForCausalLM",
        _LAYER_NORMED | {"ffn_dim": 256, "tie_word_embeddings": True},
        dict,
        {"word_embed_proj_dim": 128},
        variant=True,
    ),
    "phi 2": Family(
        "PhiForCausalLM",
        _LAYER_NORMED | _PARTLY_ROTATED,
        _with_partial_rotary_factor,
        _GELU_NEW | _SMALL_TOKENS,
    ),
    "stable lm": Family(
        "StableLmForCausalLM",
        _LAYER_NORMED | _PARTLY_ROTATED | {"use_qkv_bias": True},
        _with_partial_rotary_factor,
        {"num_key_value_heads": 8} | _SMALL_TOKENS,
        variant=True,
    ),
    "kimi k2": Family(
        "DeepseekV3ForCausalLM",
        _LATENT
        | {"n_group": 1, "topk_group": 1, "n_shared_experts": 1}
        | {"rope_scaling": _LATENT["rope_scaling"] | {"beta_fast": 1.0}},
        variant=True,
    ),
    "deepseek v2": Family("DeepseekV2ForCausalLM", _LATENT | _V2, variant=True),
    "deepseek v2 lite": Family(
        "DeepseekV2ForCausalLM",
        _LATENT | _V2 | {"q_lora_rank": None, "n_group": 1, "topk_group": 1, "topk_method": "greedy"},
        variant=True,
    ),
    "deepseek v3.2": Family("DeepseekV32ForCausalLM", _LATENT | _INDEXER),
    "glm 5": Family(
        "GlmMoeDsaForCausalLM",
        _LATENT | _INDEXER | {"rope_scaling": None, "n_group": 1, "topk_group": 1},
        variant=True,
    ),
    "glm 4.5": Family("Glm4MoeForCausalLM", _GLM, _with_partial_rotary_factor),
    "glm 4.5 air": Family(
        "Glm4MoeForCausalLM", _GLM | {"use_qk_norm": False}, _with_partial_rotary_factor, variant=True
    ),
}


@dataclass(frozen=True)
class Pair:
    """Both implementations with the same spread weights, a batch of tokens and the independent logits."""

    family: Family
    independent: nn.Module
    ids: Tensor
    logits: Tensor

    def ours(self, blueprint: Blueprint | None = None) -> Decoder:
        """The reference implementation with the same weights, under the same or a mistaken blueprint."""
        model = build_model(blueprint or self.family.blueprint)
        load_main_model(model, self.independent.state_dict(), names_of(self.family.architecture))
        return model

    @torch.no_grad()
    def logits_in_pieces(self) -> Tensor:
        """The independent logits again, the tokens fed in pieces over a cache."""
        logits, cache = [], None
        for piece in self.ids.split(PIECES, 1):
            out = self.independent(piece, past_key_values=cache, use_cache=True)
            logits.append(out.logits)
            cache = out.past_key_values
        return torch.cat(logits, 1)


def strengthen_states(model: nn.Module) -> None:
    """Weights under which a recurrent state decays slowly and weighs as much as what skips it."""
    for name, parameter in model.named_parameters():
        if name.endswith("conv1d.weight"):
            parameter.mul_(20)
        elif name.endswith("A_log"):
            parameter.sub_(2)


def lower_norms(model: nn.Module) -> None:
    """Weights of norms that are stored as what they exceed one by; those of gated norms are stored whole."""
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight") and "linear_attn" not in name:
            parameter.sub_(1)


def make_pair(name: str) -> Pair:
    """Both implementations of a family."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    independent = family.independent()
    if hasattr(independent, "set_experts_implementation"):
        independent.set_experts_implementation("eager")
    with torch.no_grad():
        randomise(independent)
        for parameter in (p for n, p in independent.named_parameters() if n.endswith("bias")):
            parameter.normal_(0, 0.1)
        strengthen_states(independent)
        if family.norms_above_one:
            lower_norms(independent)
        ids = torch.randint(0, family.blueprint.vocab_size, (N_SEQUENCES, N_TOKENS))
        return Pair(family, independent, ids, independent(ids, use_cache=False).logits)


@torch.no_grad()
def whole(model: Decoder, ids: Tensor) -> Tensor:
    """Logits of all tokens in one pass."""
    return model(ids, positions_of(ids))[0]


@torch.no_grad()
def in_pieces(model: Decoder, ids: Tensor) -> Tensor:
    """Logits of all tokens, fed in pieces over a cache."""
    logits, caches, start = [], None, 0
    for piece in ids.split(PIECES, 1):
        out, _, caches = model(piece, positions_of(piece, start), caches, start > 0)
        logits.append(out)
        start += piece.shape[1]
    return torch.cat(logits, 1)


@torch.no_grad()
def in_pieces_after(model: Decoder, ids: Tensor, caches: list[Tensor], start: int) -> Tensor:
    """Logits of tokens that are decoded one by one on caches of `start` tokens."""
    logits = []
    for token in ids.split(1, 1):
        out, _, caches = model(token, positions_of(token, start + len(logits)), caches, True)
        logits.append(out)
    return torch.cat(logits, 1)
