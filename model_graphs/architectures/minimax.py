"""MiniMax M2, M2.1, M2.5: queries and keys normalised over their whole width, half of a head rotated."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.blueprint import Blueprint, LayerSpec, MixtureSpec, QueryKeyNorm, Scoring


class MiniMaxM2Config(GroupedConfig):
    """Widths and counts of a MiniMax M2 model. Its MTP modules are not part of what is modelled."""

    names: ClassVar[tuple[str, ...]] = ("MiniMaxM2ForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "hidden_act": "silu",
        "scoring_func": "sigmoid",
        "use_qk_norm": True,
        "qk_norm_type": "per_layer",
        "use_routing_bias": True,
        "shared_intermediate_size": 0,
    }

    head_dim: int = Field(gt=0)
    rotary_dim: int = Field(gt=0, multiple_of=2)
    intermediate_size: int = Field(gt=0)
    num_local_experts: int = Field(gt=0)
    num_experts_per_tok: int = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Layers that are all alike."""
        attention = self.attention(norm=QueryKeyNorm.WIDTH, rope_width=self.rotary_dim)
        mixture = MixtureSpec(
            experts=self.num_local_experts,
            topk=self.num_experts_per_tok,
            inter=self.intermediate_size,
            scoring=Scoring.SIGMOID,
            normalise=True,
            balanced=True,
        )
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(LayerSpec("moe_layer", attention, mixture),) * self.num_hidden_layers,
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
        )
