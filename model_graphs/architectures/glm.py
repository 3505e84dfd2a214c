"""GLM 4.5 (grouped attention and experts) and GLM 5 (latent sparse attention and experts).

References: GLM-4.5 report (arXiv 2508.06471) section 2.1; GLM-5 report (arXiv 2602.15763).
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.errors import Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.deepseek import DeepSeekV32Config
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.architectures.latent import group_problems
from model_graphs.blueprint import (
    AttentionSpec,
    Blueprint,
    FeedForwardSpec,
    LayerSpec,
    MixtureSpec,
    QueryKeyNorm,
    Scoring,
)


class Glm4MoeConfig(GroupedConfig):
    """Widths and counts of a GLM 4.5, 4.5 Air, 4.6 or 4.7 model."""

    names: ClassVar[tuple[str, ...]] = ("Glm4MoeForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {"hidden_act": "silu"}

    head_dim: int = Field(gt=0)
    partial_rotary_factor: float = Field(gt=0, le=1)
    attention_bias: bool
    use_qk_norm: bool
    intermediate_size: int = Field(gt=0)
    first_k_dense_replace: int = Field(ge=0)
    moe_intermediate_size: int = Field(gt=0)
    n_routed_experts: int = Field(gt=0)
    n_shared_experts: int = Field(ge=1)
    num_experts_per_tok: int = Field(gt=0)
    n_group: int = Field(gt=0)
    topk_group: int = Field(gt=0)
    routed_scaling_factor: float = Field(gt=0)
    norm_topk_prob: bool
    num_nextn_predict_layers: int = Field(ge=0)

    def _head_problems(self) -> Iterator[Problem]:
        yield from super()._head_problems()
        if self.first_k_dense_replace > self.num_hidden_layers:
            given = str(self.first_k_dense_replace)
            yield Problem("must be at most num_hidden_layers", given, path="first_k_dense_replace")
        yield from group_problems(
            self.n_routed_experts, self.n_group, self.topk_group, self.num_experts_per_tok
        )

    @property
    def blueprint(self) -> Blueprint:
        """Dense layers first, then layers with experts; an MTP module holds one of the latter."""
        n_dense = self.first_k_dense_replace
        dense = LayerSpec("dense_layer", self._attention, FeedForwardSpec(self.intermediate_size))
        sparse = LayerSpec("moe_layer", self._attention, self._mixture)
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(dense,) * n_dense + (sparse,) * (self.num_hidden_layers - n_dense),
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
            mtp_layers=(sparse,) * self.num_nextn_predict_layers,
        )

    @property
    def _attention(self) -> AttentionSpec:
        """Biases belong to queries, keys and values alone."""
        return self.attention(
            qkv_bias=self.attention_bias,
            norm=QueryKeyNorm.HEAD if self.use_qk_norm else QueryKeyNorm.NONE,
            rope_width=int(self.head_dim * self.partial_rotary_factor),
        )

    @property
    def _mixture(self) -> MixtureSpec:
        return MixtureSpec(
            experts=self.n_routed_experts,
            topk=self.num_experts_per_tok,
            inter=self.moe_intermediate_size,
            scoring=Scoring.SIGMOID,
            normalise=self.norm_topk_prob,
            scale=self.routed_scaling_factor,
            groups=self.n_group,
            topk_groups=self.topk_group,
            balanced=True,
            shared=FeedForwardSpec(self.moe_intermediate_size * self.n_shared_experts),
        )


class GlmMoeDsaConfig(DeepSeekV32Config):
    """Widths and counts of a GLM 5 model: DeepSeek V3.2 with an indexer that rotates pairs of neighbours."""

    names: ClassVar[tuple[str, ...]] = ("GlmMoeDsaForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        **DeepSeekV32Config.fixed,
        "rope_interleave": True,
        "indexer_rope_interleave": True,
        "index_topk_freq": 1,
    }
    neighbours: ClassVar[bool] = True

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """Positions that are stretched, and layers that reuse another layer's choice of tokens."""
        yield from super().foreign(data)
        rope = data.get("rope_parameters")
        if isinstance(rope, dict) and rope.get("rope_type", "default") != "default":
            yield "rope_parameters", Problem("rope_type must be 'default'", repr(rope["rope_type"]))
        kinds = data.get("indexer_types") or []
        if isinstance(kinds, list) and any(kind != "full" for kind in kinds):
            yield (
                "indexer_types",
                Problem("every layer must have its own indexer ('full')", repr(kinds)),
            )

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields; the base of the rotary positions is under `rope_parameters`."""
        rope = data.get("rope_parameters")
        base = {"rope_theta": rope["rope_theta"]} if isinstance(rope, dict) and "rope_theta" in rope else {}
        return super().normalised({"rope_scaling": None, **data, **base})
