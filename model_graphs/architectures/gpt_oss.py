"""gpt-oss: attention sinks, a window on every other layer, biased experts with a clamped activation.

References: gpt-oss model card (arXiv 2508.10925) section 2.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.blueprint import Activation, Blueprint, LayerSpec, MixtureSpec, Scoring


class GptOssConfig(GroupedConfig):
    """Widths and counts of a gpt-oss model."""

    names: ClassVar[tuple[str, ...]] = ("GptOssForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "hidden_act": "silu",
        "attention_bias": True,
        "swiglu_limit": 7.0,
    }

    head_dim: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_local_experts: int = Field(gt=0)
    num_experts_per_tok: int = Field(gt=0)
    sliding_window: int = Field(gt=0)
    layer_types: tuple[Literal["sliding_attention", "full_attention"], ...]

    @property
    def blueprint(self) -> Blueprint:
        """Layers with and without a window, as `layer_types` says."""
        kinds = {
            "sliding_attention": self._layer("sliding_layer", self.sliding_window),
            "full_attention": self._layer("full_layer", None),
        }
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=tuple(kinds[name] for name in self.layer_types),
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
        )

    def _layer(self, name: str, window: int | None) -> LayerSpec:
        attention = self.attention(qkv_bias=True, out_bias=True, sinks=True, window=window)
        mixture = MixtureSpec(
            experts=self.num_local_experts,
            topk=self.num_experts_per_tok,
            inter=self.intermediate_size,
            scoring=Scoring.SOFTMAX,
            normalise=True,  # a softmax over the chosen logits alone
            router_bias=True,
            expert_bias=True,
            activation=Activation.CLAMPED_SWIGLU,
        )
        return LayerSpec(name, attention, mixture)
