"""Phi-3: Llama's layer with a window and with projections that are stored as one.

References: Phi-3 report (arXiv 2404.14219) section 2.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.blueprint import Blueprint, FeedForwardSpec, LayerSpec


class Phi3Config(GroupedConfig):
    """Widths and counts of a Phi-3 model of 4,096 positions; longer ones stretch positions in another way."""

    names: ClassVar[tuple[str, ...]] = ("Phi3ForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "hidden_act": "silu",
        "attention_bias": False,
        "rope_scaling": None,
        "partial_rotary_factor": 1.0,
    }

    intermediate_size: int = Field(gt=0)
    sliding_window: int | None = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Layers that are all alike."""
        attention = self.attention(window=self.sliding_window)
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(LayerSpec("layer", attention, FeedForwardSpec(self.intermediate_size)),)
            * self.num_hidden_layers,
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
        )
