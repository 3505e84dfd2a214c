"""What decoders with latent attention and a mixture of experts share: widths, YaRN, kinds of layer.

References: DeepSeek-V2 report (arXiv 2405.04434) and DeepSeek-V3 report (arXiv 2412.19437), section 2.1.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.base import ModelConfig, Record, yarn_magnitude
from model_graphs.blueprint import (
    Blueprint,
    FeedForwardSpec,
    IndexerSpec,
    LatentAttentionSpec,
    LayerSpec,
    MixtureSpec,
    RopeSpec,
    YarnScaling,
)


class RopeScaling(Record):
    """YaRN as DeepSeek writes it: `mscale` corrects sines and cosines, `mscale_all_dim` the scores."""

    factor: float = Field(gt=0)
    original_max_position_embeddings: int = Field(gt=0)
    beta_fast: float = Field(gt=0)
    beta_slow: float = Field(gt=0)
    mscale: float = Field(ge=0)
    mscale_all_dim: float = Field(ge=0)

    @property
    def score_scale(self) -> float:
        """What scores are multiplied by."""
        return yarn_magnitude(self.factor, self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0

    @property
    def rotary_scale(self) -> float:
        """What sines and cosines are multiplied by: the rest of the correction."""
        if not (self.mscale and self.mscale_all_dim):
            return yarn_magnitude(self.factor)
        return yarn_magnitude(self.factor, self.mscale) / yarn_magnitude(self.factor, self.mscale_all_dim)


class LatentConfig(ModelConfig):
    """Dense layers first, then layers with experts; latent attention in all of them."""

    fixed: ClassVar[Mapping[str, Plain]] = {
        "hidden_act": "silu",
        "attention_bias": False,
        "moe_layer_freq": 1,
        "tie_word_embeddings": False,
    }

    q_lora_rank: int | None = Field(gt=0)
    kv_lora_rank: int = Field(gt=0)
    qk_nope_head_dim: int = Field(gt=0)
    qk_rope_head_dim: int = Field(gt=0, multiple_of=2)
    v_head_dim: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    first_k_dense_replace: int = Field(ge=0)
    moe_intermediate_size: int = Field(gt=0)
    n_routed_experts: int = Field(gt=0)
    n_shared_experts: int = Field(ge=1)
    num_experts_per_tok: int = Field(gt=0)
    n_group: int = Field(gt=0)
    topk_group: int = Field(gt=0)
    routed_scaling_factor: float = Field(gt=0)
    rms_norm_eps: float = Field(gt=0)
    rope_theta: float = Field(gt=0)
    rope_scaling: RopeScaling | None

    @model_validator(mode="after")
    def _routing_is_possible(self) -> Self:
        problems = list(_routing_problems(self))
        if problems:
            raise InputError(*problems)
        return self

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """Other routers, biased attention, and scalings other than YaRN."""
        yield from super().foreign(data)
        scaling = data.get("rope_scaling")
        if isinstance(scaling, dict):
            kind = scaling.get("type", scaling.get("rope_type"))
            if kind != "yarn":
                yield "rope_scaling", Problem("type must be 'yarn'", repr(kind))

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields; the kind of scaling is known."""
        kept = super().normalised(data)
        scaling = kept.get("rope_scaling")
        if isinstance(scaling, dict):
            kept["rope_scaling"] = {k: v for k, v in scaling.items() if k not in ("type", "rope_type")}
        return kept

    def of_layers(self, mixture: MixtureSpec, indexer: IndexerSpec | None = None, mtp: int = 0) -> Blueprint:
        """The model with this mixture in its later layers and in its `mtp` prediction modules."""
        attention = self.attention(indexer)
        dense = LayerSpec("dense_layer", attention, FeedForwardSpec(self.intermediate_size))
        sparse = LayerSpec("moe_layer", attention, mixture)
        n_dense = self.first_k_dense_replace
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(dense,) * n_dense + (sparse,) * (self.num_hidden_layers - n_dense),
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            mtp_layers=(sparse,) * mtp,
        )

    def attention(self, indexer: IndexerSpec | None = None) -> LatentAttentionSpec:
        """The attention of a layer, to all cached tokens or to those that the indexer picks."""
        scale = (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5
        return LatentAttentionSpec(
            heads=self.num_attention_heads,
            q_rank=self.q_lora_rank,
            kv_rank=self.kv_lora_rank,
            content=self.qk_nope_head_dim,
            position=self.qk_rope_head_dim,
            value=self.v_head_dim,
            rope=RopeSpec(self.qk_rope_head_dim, self.rope_theta, self._yarn, neighbours=True),
            scale=scale * (self.rope_scaling.score_scale if self.rope_scaling else 1.0),
            indexer=indexer,
        )

    @property
    def shared_expert(self) -> FeedForwardSpec:
        """The expert that every token uses."""
        return FeedForwardSpec(self.moe_intermediate_size * self.n_shared_experts)

    @property
    def _yarn(self) -> YarnScaling | None:
        given = self.rope_scaling
        if given is None:
            return None
        original, magnitude = given.original_max_position_embeddings, given.rotary_scale
        return YarnScaling(given.factor, original, given.beta_fast, given.beta_slow, magnitude)


def _routing_problems(config: LatentConfig) -> Iterator[Problem]:
    if config.first_k_dense_replace > config.num_hidden_layers:
        given = str(config.first_k_dense_replace)
        yield Problem("must be at most num_hidden_layers", given, path="first_k_dense_replace")
    yield from group_problems(
        config.n_routed_experts, config.n_group, config.topk_group, config.num_experts_per_tok
    )


def group_problems(n_experts: int, n_groups: int, topk_groups: int, topk: int) -> Iterator[Problem]:
    """What makes it impossible to choose `topk` experts inside the best groups."""
    if n_experts % n_groups:
        yield Problem("must divide n_routed_experts", str(n_groups), path="n_group")
    if topk_groups > n_groups:
        yield Problem("must be at most n_group", str(topk_groups), path="topk_group")
    reachable = n_experts // n_groups * topk_groups
    if topk > reachable:
        yield Problem(
            f"must be at most the {reachable} experts of topk_group groups",
            str(topk),
            path="num_experts_per_tok",
        )
