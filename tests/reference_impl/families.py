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


def _with_rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config.json` as `transformers` 5 takes it: theta and scaling in one mapping."""
    known = dict(config)
    scaling = known.pop("rope_scaling", None) or {"rope_type": "default"}
    return known | {"rope_parameters": {**scaling, "rope_theta": known.pop("rope_theta")}}


def _with_partial_rotary(config: Mapping[str, Any]) -> dict[str, Any]:
    known = _with_rope_parameters(config)
    known["rope_parameters"]["partial_rotary_factor"] = known.pop("rotary_dim") / known["head_dim"]
    return known


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
    ),
    "minimax m2": Family(
        "MiniMaxM2ForCausalLM",
        _BASE | _EXPERTS | {"head_dim": 24, "rotary_dim": 12, "rope_theta": 5e6},
        _with_partial_rotary,
        {"bos_token_id": 0, "eos_token_id": 1},
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
