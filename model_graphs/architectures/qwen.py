"""Qwen2.5 (biased projections), Qwen3 (normalised queries and keys), Qwen3 with experts.

References: Qwen2.5 report (arXiv 2412.15115) section 2; Qwen3 report (arXiv 2505.09388) section 2.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.blueprint import (
    Blueprint,
    FeedForward,
    FeedForwardSpec,
    LayerSpec,
    MixtureSpec,
    QueryKeyNorm,
    Scoring,
)


class _QwenConfig(GroupedConfig):
    def _of(self, *layers: LayerSpec) -> Blueprint:
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=layers,
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
        )


class Qwen2Config(_QwenConfig):
    """Widths and counts of a Qwen2 or Qwen2.5 model, the R1 distillations into it among them."""

    names: ClassVar[tuple[str, ...]] = ("Qwen2ForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {"hidden_act": "silu", "use_sliding_window": False}

    intermediate_size: int = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Layers that are all alike; projections to queries, keys and values have biases."""
        layer = LayerSpec("layer", self.attention(qkv_bias=True), FeedForwardSpec(self.intermediate_size))
        return self._of(*(layer,) * self.num_hidden_layers)


class Qwen3Config(_QwenConfig):
    """Widths and counts of a dense Qwen3 model."""

    names: ClassVar[tuple[str, ...]] = ("Qwen3ForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "hidden_act": "silu",
        "use_sliding_window": False,
        "attention_bias": False,
    }

    head_dim: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Layers that are all alike; each head's query and key is normalised."""
        layer = self._layer("layer", FeedForwardSpec(self.intermediate_size))
        return self._of(*(layer,) * self.num_hidden_layers)

    def _layer(self, name: str, part: FeedForward) -> LayerSpec:
        return LayerSpec(name, self.attention(norm=QueryKeyNorm.HEAD), part)


class Qwen3MoeConfig(Qwen3Config):
    """Widths and counts of a Qwen3 model with experts in every layer and none that is shared."""

    names: ClassVar[tuple[str, ...]] = ("Qwen3MoeForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        **Qwen3Config.fixed,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }

    moe_intermediate_size: int = Field(gt=0)
    num_experts: int = Field(gt=0)
    num_experts_per_tok: int = Field(gt=0)
    norm_topk_prob: bool

    @property
    def blueprint(self) -> Blueprint:
        """Layers that are all alike."""
        mixture = MixtureSpec(
            experts=self.num_experts,
            topk=self.num_experts_per_tok,
            inter=self.moe_intermediate_size,
            scoring=Scoring.SOFTMAX,
            normalise=self.norm_topk_prob,
        )
        return self._of(*(self._layer("moe_layer", mixture),) * self.num_hidden_layers)
