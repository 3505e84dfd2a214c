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
    """A family's names inside a layer.

    `modules` maps a module here to those whose `weight` and `bias` are stacked to make its own; `tensors`
    maps a single tensor here to the recipe that makes it.
    """

    modules: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, Recipe] = field(default_factory=dict)

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

NAMES: Mapping[str, Names] = {"GptOssForCausalLM": GPT_OSS, "MiniMaxM2ForCausalLM": MINIMAX}


def names_of(architecture: str) -> Names:
    """The names of an architecture's tensors."""
    return NAMES.get(architecture, USUAL)
