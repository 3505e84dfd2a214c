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


@dataclass(frozen=True)
class Recipe:
    """The published tensors that make one of ours, and how."""

    names: tuple[str, ...]
    make: Make = stacked


@dataclass(frozen=True)
class Names:
    """A family's names inside a layer, and those of the embedding and of the norms around the layers.

    `modules` maps a module here to those whose `weight` and `bias` are stacked to make its own; `tensors`
    maps a single tensor here to the recipe that makes it. `norm` makes the weights of norms over the hidden
    size and over heads from what is stored.
    """

    modules: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, Recipe] = field(default_factory=dict)
    embedding: str = "embed_tokens"
    opening_norm: str = "input_layernorm"
    final_norm: str = "norm"
    norm: Make = stacked

    def recipe(self, tensor: str) -> Recipe:
        """What makes the tensor of a layer, its names inside the layer."""
        if tensor in self.tensors:
            return self.tensors[tensor]
        module, leaf = tensor.rsplit(".", 1)
        make = self.norm if module in _NORMS else stacked
        return Recipe(tuple(f"{name}.{leaf}" for name in self.modules[module]), make)

    def norm_recipe(self, name: str) -> Recipe:
        """What makes the weight of a norm over the hidden size from the one of this name."""
        return Recipe((f"{name}.weight",), self.norm)


_NORMS = ("post_attention_norm", "self_attn.q_norm", "self_attn.k_norm")
_USUAL = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.q_norm": ("self_attn.q_norm",),
    "self_attn.k_norm": ("self_attn.k_norm",),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "self_attn.q_kv_a_proj": ("self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"),
    "self_attn.q_a_layernorm": ("self_attn.q_a_layernorm",),
    "self_attn.q_b_proj": ("self_attn.q_b_proj",),
    "self_attn.kv_a_layernorm": ("self_attn.kv_a_layernorm",),
    "self_attn.kv_b_proj": ("self_attn.kv_b_proj",),
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


def _channels(tensors: Sequence[Tensor]) -> Tensor:
    """Weights [channels, 1, tokens] of a convolution without the axis in the middle."""
    return tensors[0].squeeze(1)


def _above_one(tensors: Sequence[Tensor]) -> Tensor:
    """Weights of a norm that are stored as what they exceed one by."""
    return 1 + tensors[0]


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
    embedding="embeddings",
    opening_norm="norm",
    final_norm="norm_f",
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
    },
    norm=_above_one,
)

NAMES: Mapping[str, Names] = {
    "GptOssForCausalLM": GPT_OSS,
    "MiniMaxM2ForCausalLM": MINIMAX,
    "NemotronHForCausalLM": NEMOTRON_H,
    "Qwen3_5MoeForCausalLM": QWEN_3_5,
    "Qwen3_5MoeForConditionalGeneration": QWEN_3_5,
}


def names_of(architecture: str) -> Names:
    """The names of an architecture's tensors."""
    return NAMES.get(architecture, USUAL)
