"""Llama 1 to 3 and models of their architecture: grouped attention, gated MLP, RMS norms."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.blueprint import Blueprint, FeedForwardSpec, LayerSpec


class LlamaConfig(GroupedConfig):
    """Widths and counts of a Llama model; Mistral without a window is one too."""

    names: ClassVar[tuple[str, ...]] = ("LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM")
    fixed: ClassVar[Mapping[str, Plain]] = {
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "sliding_window": None,
        "pretraining_tp": 1,
    }

    head_dim: int | None = Field(default=None, gt=0)
    intermediate_size: int = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Layers that are all alike."""
        layer = LayerSpec("layer", self.attention(), FeedForwardSpec(self.intermediate_size))
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(layer,) * self.num_hidden_layers,
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
        )
