"""Mixtral: Mistral's attention with experts in every layer, of which a token uses the best by softmax.

References: Mixtral of Experts (arXiv 2401.04088) section 2.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.blueprint import Blueprint, LayerSpec, MixtureSpec, Scoring


class MixtralConfig(GroupedConfig):
    """Widths and counts of a Mixtral model."""

    names: ClassVar[tuple[str, ...]] = ("MixtralForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {"hidden_act": "silu", "sliding_window": None}

    head_dim: int | None = Field(default=None, gt=0)
    intermediate_size: int = Field(gt=0)
    num_local_experts: int = Field(gt=0)
    num_experts_per_tok: int = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Layers that are all alike."""
        mixture = MixtureSpec(
            experts=self.num_local_experts,
            topk=self.num_experts_per_tok,
            inter=self.intermediate_size,
            scoring=Scoring.SOFTMAX,
            normalise=True,
        )
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(LayerSpec("moe_layer", self.attention(), mixture),) * self.num_hidden_layers,
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
        )
