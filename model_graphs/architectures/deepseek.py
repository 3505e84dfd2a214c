"""DeepSeek V3 and R1, and models of their architecture: MLA, DeepSeekMoE, YaRN, multi-token prediction.

References: DeepSeek-V3 report (arXiv 2412.19437) sections 2.1 and 4.2.
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
    LatentAttentionSpec,
    LayerSpec,
    MixtureSpec,
    RopeSpec,
    Scoring,
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


class DeepSeekV3Config(ModelConfig):
    """Widths and counts of a DeepSeek V3 model."""

    names: ClassVar[tuple[str, ...]] = ("DeepseekV3ForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "hidden_act": "silu",
        "attention_bias": False,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "moe_layer_freq": 1,
        "tie_word_embeddings": False,
    }

    q_lora_rank: int = Field(gt=0)
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
    norm_topk_prob: bool
    num_nextn_predict_layers: int = Field(ge=0)
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

    @property
    def blueprint(self) -> Blueprint:
        """Dense layers first, then layers with experts; an MTP module holds one of the latter."""
        dense, moe = self.first_k_dense_replace, self.num_hidden_layers - self.first_k_dense_replace
        layer = self._moe_layer
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(self._dense_layer,) * dense + (layer,) * moe,
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            mtp_layers=(layer,) * self.num_nextn_predict_layers,
        )

    @property
    def _dense_layer(self) -> LayerSpec:
        return LayerSpec("dense_layer", self._attention, FeedForwardSpec(self.intermediate_size))

    @property
    def _moe_layer(self) -> LayerSpec:
        mixture = MixtureSpec(
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
        return LayerSpec("moe_layer", self._attention, mixture)

    @property
    def _attention(self) -> LatentAttentionSpec:
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
        )

    @property
    def _yarn(self) -> YarnScaling | None:
        given = self.rope_scaling
        if given is None:
            return None
        original, magnitude = given.original_max_position_embeddings, given.rotary_scale
        return YarnScaling(given.factor, original, given.beta_fast, given.beta_slow, magnitude)


def _routing_problems(config: DeepSeekV3Config) -> Iterator[Problem]:
    if config.first_k_dense_replace > config.num_hidden_layers:
        given = str(config.first_k_dense_replace)
        yield Problem("must be at most num_hidden_layers", given, path="first_k_dense_replace")
    if config.n_routed_experts % config.n_group:
        yield Problem("must divide n_routed_experts", str(config.n_group), path="n_group")
    if config.topk_group > config.n_group:
        yield Problem("must be at most n_group", str(config.topk_group), path="topk_group")
    reachable = config.n_routed_experts // config.n_group * config.topk_group
    if config.num_experts_per_tok > reachable:
        given = str(config.num_experts_per_tok)
        yield Problem(
            f"must be at most the {reachable} experts of topk_group groups", given, path="num_experts_per_tok"
        )
