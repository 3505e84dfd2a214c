"""What the tensors of a model are called where it is published, family by family.

Products that run as one are stored as one here: queries, keys and values; gate and up; MLA's q_a with kv_a.
A layer closes with the norm that its successor opens with there. Names are those of `transformers`, in which
experts are stacked; reading files with other names is left to the reader of checkpoints.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Make = Callable[[Sequence[Tensor]], Tensor]


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors below each other."""
    return torch.cat(list(tensors))


def by_part(tensors: Sequence[Tensor], heads: int) -> Tensor:
    """Queries, keys and values, which stand head by head, one after the other."""
    return tensors[0].unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)


@dataclass(frozen=True)
class Recipe:
    """The published tensors that make one of ours, and how."""

    names: tuple[str, ...]
    make: Make = stacked


_OUTSIDE = {"embed_tokens": "model.embed_tokens", "lm_head": "lm_head"}


@dataclass(frozen=True)
class Names:
    """A family's names.

    Inside a layer `modules` maps a module here to those whose `weight` and `bias` are stacked to make its
    own, and `tensors` a tensor here to the recipe that makes it. `outside` are modules beside the layers;
    `layer` is the path of a layer by its number, `opening` the norm that a layer opens with, `final` the norm
    after the last; `norm` makes the weights of norms between layers. With `head_by_head` the rows of a head's
    query, key and value are published together.
    """

    modules: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, Recipe] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=lambda: _OUTSIDE)
    layer: str = "model.layers.{}"
    opening: str = "input_layernorm"
    final: str = "model.norm"
    norm: Make = stacked
    head_by_head: bool = False

    def before_layer(self, index: int) -> str:
        """The norm that a layer opens with."""
        return f"{self.layer.format(index)}.{self.opening}"

    def recipe(self, tensor: str) -> Recipe:
        """What makes the tensor of a layer, its names inside the layer."""
        if tensor in self.tensors:
            return self.tensors[tensor]
        module, leaf = tensor.rsplit(".", 1)
        return Recipe(tuple(f"{name}.{leaf}" for name in self.modules[module]))


_USUAL = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.q_norm": ("self_attn.q_norm",),
    "self_attn.k_norm": ("self_attn.k_norm",),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "self_attn.q_kv_a_proj": ("self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"),
    "self_attn.q_proj": ("self_attn.q_proj",),
    "self_attn.kv_a_proj": ("self_attn.kv_a_proj_with_mqa",),
    "self_attn.q_a_layernorm": ("self_attn.q_a_layernorm",),
    "self_attn.q_b_proj": ("self_attn.q_b_proj",),
    "self_attn.kv_a_layernorm": ("self_attn.kv_a_layernorm",),
    "self_attn.kv_b_proj": ("self_attn.kv_b_proj",),
    "self_attn.indexer.wq_b": ("self_attn.indexer.wq_b",),
    "self_attn.indexer.wk": ("self_attn.indexer.wk",),
    "self_attn.indexer.k_norm": ("self_attn.indexer.k_norm",),
    "self_attn.indexer.weights_proj": ("self_attn.indexer.weights_proj",),
    "post_attention_norm": ("post_attention_layernorm",),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
    "mlp.routed.gate": ("mlp.gate",),
    "mlp.shared_experts.gate_up_proj": ("mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj"),
    "mlp.shared_experts.down_proj": ("mlp.shared_experts.down_proj",),
}
_EXPERTS = {
    f"mlp.routed.experts.{name}": Recipe((f"mlp.experts.{name}",)) for name in ("gate_up_proj", "down_proj")
}


def _columns(tensors: Sequence[Tensor]) -> Tensor:
    """Weights [E, inputs, outputs] as [E, outputs, inputs]."""
    return tensors[0].transpose(1, 2)


def _apart(tensor: Tensor, axis: int) -> Tensor:
    """Gate and up, which alternate along the axis, one after the other."""
    pairs = tensor.unflatten(axis, (-1, 2))
    return torch.cat([pairs.select(axis + 1, 0), pairs.select(axis + 1, 1)], axis)


USUAL = Names(_USUAL, _EXPERTS)
GPT_OSS = Names(
    _USUAL | {"mlp.routed.gate": ("mlp.router",)},
    {
        "self_attn.core.sinks": Recipe(("self_attn.sinks",)),
        "mlp.routed.experts.gate_up_proj": Recipe(
            ("mlp.experts.gate_up_proj",), lambda tensors: _apart(_columns(tensors), 1)
        ),
        "mlp.routed.experts.down_proj": Recipe(("mlp.experts.down_proj",), _columns),
        "mlp.routed.experts.gate_up_bias": Recipe(
            ("mlp.experts.gate_up_proj_bias",), lambda tensors: _apart(tensors[0], 1)
        ),
        "mlp.routed.experts.down_bias": Recipe(("mlp.experts.down_proj_bias",)),
    },
)
MINIMAX = Names(
    _USUAL,
    _EXPERTS | {"mlp.routed.gate.e_score_correction_bias": Recipe(("mlp.e_score_correction_bias",))},
)


def _one_more(tensors: Sequence[Tensor]) -> Tensor:
    """The weight of a norm that is published less one."""
    return tensors[0] + 1


_GEMMA_NORMS = {
    "self_attn.q_norm": "self_attn.q_norm",
    "self_attn.k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
}
_GEMMA_3_NORMS = _GEMMA_NORMS | {
    "attention_output_norm": "post_attention_layernorm",
    "post_attention_norm": "pre_feedforward_layernorm",
    "mlp_output_norm": "post_feedforward_layernorm",
}


def _gemma(norms: Mapping[str, str]) -> Names:
    tensors = {f"{own}.weight": Recipe((f"{name}.weight",), _one_more) for own, name in norms.items()}
    return Names(_USUAL, tensors, norm=_one_more)


GEMMA_3 = _gemma(_GEMMA_3_NORMS)
PHI_3 = Names(
    _USUAL
    | {
        "self_attn.qkv_proj": ("self_attn.qkv_proj",),
        "mlp.gate_up_proj": ("mlp.gate_up_proj",),
    }
)

_LLAMA_4_MLP = {
    f"mlp.{own}": tuple(f"feed_forward.{name}" for name in names)
    for own, names in {
        "gate_up_proj": ("gate_proj", "up_proj"),
        "down_proj": ("down_proj",),
        "routed.gate": ("router",),
        "shared_experts.gate_up_proj": ("shared_expert.gate_proj", "shared_expert.up_proj"),
        "shared_experts.down_proj": ("shared_expert.down_proj",),
    }.items()
}
LLAMA_4 = Names(
    _USUAL | _LLAMA_4_MLP,
    {
        f"mlp.routed.experts.{name}": Recipe((f"feed_forward.experts.{name}",), _columns)
        for name in ("gate_up_proj", "down_proj")
    },
)
GPT_J = Names(
    {
        "self_attn.qkv_proj": ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
        "self_attn.o_proj": ("attn.out_proj",),
        "mlp.up_proj": ("mlp.fc_in",),
        "mlp.down_proj": ("mlp.fc_out",),
    },
    outside={"embed_tokens": "transformer.wte", "lm_head": "lm_head"},
    layer="transformer.h.{}",
    opening="ln_1",
    final="transformer.ln_f",
)
BLOOM = Names(
    {
        "self_attn.qkv_proj": ("self_attention.query_key_value",),
        "self_attn.o_proj": ("self_attention.dense",),
        "post_attention_norm": ("post_attention_layernorm",),
        "mlp.up_proj": ("mlp.dense_h_to_4h",),
        "mlp.down_proj": ("mlp.dense_4h_to_h",),
    },
    outside={
        "embed_tokens": "transformer.word_embeddings",
        "embed_norm": "transformer.word_embeddings_layernorm",
    },
    layer="transformer.h.{}",
    final="transformer.ln_f",
    head_by_head=True,
)
OPT = Names(
    {
        "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attn.o_proj": ("self_attn.out_proj",),
        "post_attention_norm": ("final_layer_norm",),
        "mlp.up_proj": ("fc1",),
        "mlp.down_proj": ("fc2",),
    },
    outside={
        "embed_tokens": "model.decoder.embed_tokens",
        "embed_positions": "model.decoder.embed_positions",
    },
    layer="model.decoder.layers.{}",
    opening="self_attn_layer_norm",
    final="model.decoder.final_layer_norm",
)
PHI = Names(
    _USUAL
    | {
        "self_attn.o_proj": ("self_attn.dense",),
        "mlp.up_proj": ("mlp.fc1",),
        "mlp.down_proj": ("mlp.fc2",),
    },
    final="model.final_layernorm",
)


QWEN_VL = Names(
    _USUAL,
    _EXPERTS,
    outside={"embed_tokens": "model.language_model.embed_tokens", "lm_head": "lm_head"},
    layer="model.language_model.layers.{}",
    final="model.language_model.norm",
)


def _matrix(tensors: Sequence[Tensor]) -> Tensor:
    """The kernels [D, channels, height, width] of a convolution as rows."""
    return tensors[0].flatten(1)


BERT = Names(
    {
        "self_attn.qkv_proj": tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
        "self_attn.o_proj": ("attention.output.dense",),
        "attention_norm": ("attention.output.LayerNorm",),
        "mlp.up_proj": ("intermediate.dense",),
        "mlp.down_proj": ("output.dense",),
        "closing_norm": ("output.LayerNorm",),
    },
    outside={
        "embeddings.embed_tokens": "bert.embeddings.word_embeddings",
        "embeddings.embed_types": "bert.embeddings.token_type_embeddings",
        "embeddings.embed_positions": "bert.embeddings.position_embeddings",
        "embeddings.norm": "bert.embeddings.LayerNorm",
        "head": "qa_outputs",
    },
    layer="bert.encoder.layer.{}",
)
VIT = Names(
    {
        "self_attn.qkv_proj": tuple(f"attention.{name}_proj" for name in "qkv"),
        "self_attn.o_proj": ("attention.o_proj",),
        "attention_norm": ("layernorm_after",),
        "mlp.up_proj": ("mlp.fc1",),
        "mlp.down_proj": ("mlp.fc2",),
    },
    {
        "embeddings.project.weight": Recipe(("vit.embeddings.patch_embeddings.projection.weight",), _matrix),
        "embeddings.tokens.class_token": Recipe(
            ("vit.embeddings.cls_token",), lambda tensors: tensors[0].flatten()
        ),
        "embeddings.tokens.positions": Recipe(
            ("vit.embeddings.position_embeddings",), lambda tensors: tensors[0][0]
        ),
    },
    outside={
        "embeddings.project": "vit.embeddings.patch_embeddings.projection",
        "head": "classifier",
    },
    layer="vit.layers.{}",
    opening="layernorm_before",
    final="vit.layernorm",
)


def _channels(tensors: Sequence[Tensor]) -> Tensor:
    """Weights [channels, 1, tokens] of a convolution without the axis in the middle."""
    return tensors[0].squeeze(1)


_MAMBA = {
    f"self_attn.{mine}": Recipe((f"mixer.{theirs}",))
    for mine, theirs in (("scan.A_log", "A_log"), ("scan.D", "D"), ("scan.dt_bias", "dt_bias"))
}
NEMOTRON_H = Names(
    {
        "self_attn.in_proj": ("mixer.in_proj",),
        "self_attn.conv1d": ("mixer.conv1d",),
        "self_attn.norm": ("mixer.norm",),
        "self_attn.out_proj": ("mixer.out_proj",),
        "self_attn.qkv_proj": ("mixer.q_proj", "mixer.k_proj", "mixer.v_proj"),
        "self_attn.o_proj": ("mixer.o_proj",),
        "mlp.up_proj": ("mixer.up_proj",),
        "mlp.down_proj": ("mixer.down_proj",),
        "mlp.routed.gate": ("mixer.gate",),
        "mlp.routed.latent_in": ("mixer.fc1_latent_proj",),
        "mlp.routed.latent_out": ("mixer.fc2_latent_proj",),
        "mlp.shared_experts.up_proj": ("mixer.shared_experts.up_proj",),
        "mlp.shared_experts.down_proj": ("mixer.shared_experts.down_proj",),
    },
    _MAMBA
    | {
        "self_attn.conv1d.weight": Recipe(("mixer.conv1d.weight",), _channels),
        "mlp.routed.experts.gate_up_proj": Recipe(("mixer.experts.up_proj",)),
        "mlp.routed.experts.down_proj": Recipe(("mixer.experts.down_proj",)),
    },
    outside={"embed_tokens": "model.embeddings", "lm_head": "lm_head"},
    opening="norm",
    final="model.norm_f",
)
QWEN_3_5 = Names(
    _USUAL
    | {
        "self_attn.in_proj_qkvz": ("linear_attn.in_proj_qkv", "linear_attn.in_proj_z"),
        "self_attn.in_proj_ba": ("linear_attn.in_proj_b", "linear_attn.in_proj_a"),
        "self_attn.norm": ("linear_attn.norm",),
        "self_attn.out_proj": ("linear_attn.out_proj",),
        "mlp.shared_gate_proj": ("mlp.shared_expert_gate",),
        "mlp.shared_experts.gate_up_proj": ("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"),
        "mlp.shared_experts.down_proj": ("mlp.shared_expert.down_proj",),
    },
    _EXPERTS
    | {
        "self_attn.conv1d.weight": Recipe(("linear_attn.conv1d.weight",), _channels),
        "self_attn.delta_rule.A_log": Recipe(("linear_attn.A_log",)),
        "self_attn.delta_rule.dt_bias": Recipe(("linear_attn.dt_bias",)),
    }
    | {f"{own}.weight": Recipe((f"{name}.weight",), _one_more) for own, name in _GEMMA_NORMS.items()},
    norm=_one_more,
)

NAMES: Mapping[str, Names] = {
    "GptOssForCausalLM": GPT_OSS,
    "MiniMaxM2ForCausalLM": MINIMAX,
    "NemotronHForCausalLM": NEMOTRON_H,
    "Qwen3_5MoeForCausalLM": QWEN_3_5,
    "Qwen3_5MoeForConditionalGeneration": QWEN_3_5,
    "GemmaForCausalLM": _gemma(_GEMMA_NORMS),
    "Gemma3ForConditionalGeneration": GEMMA_3,
    "Gemma3ForCausalLM": GEMMA_3,
    "Phi3ForCausalLM": PHI_3,
    "Llama4ForConditionalGeneration": LLAMA_4,
    "Llama4ForCausalLM": LLAMA_4,
    "GPTJForCausalLM": GPT_J,
    "BloomForCausalLM": BLOOM,
    "OPTForCausalLM": OPT,
    "PhiForCausalLM": PHI,
    "Qwen2_5_VLForConditionalGeneration": QWEN_VL,
    "Qwen3VLForConditionalGeneration": QWEN_VL,
    "Qwen3VLMoeForConditionalGeneration": QWEN_VL,
    "BertForQuestionAnswering": BERT,
    "ViTForImageClassification": VIT,
    "ViTForDeepseekV3": VIT,
}


def names_of(architecture: str) -> Names:
    """The names of an architecture's tensors."""
    return NAMES.get(architecture, USUAL)
