"""Nemotron-H: layers of one part each, most of them Mamba-2, a few attention without rotary positions.

`hybrid_override_pattern` has a letter a layer. Nemotron 3 has experts that work in a narrower latent space.

References: Nemotron-H (arXiv 2504.03624) section 2.1; Nemotron Nano 2 (arXiv 2508.14444) section 2.1.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.base import ModelConfig
from model_graphs.blueprint import (
    Activation,
    AttentionSpec,
    Blueprint,
    FeedForwardSpec,
    LayerSpec,
    Mamba2Spec,
    MixtureSpec,
    Scoring,
)

_LETTERS = {"M": "mamba_layer", "*": "attention_layer", "-": "mlp_layer", "E": "moe_layer"}
_BLOCK_TYPES = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}


class NemotronHConfig(ModelConfig):
    """Widths and counts of a Nemotron-H, Nemotron Nano 2 or Nemotron 3 model."""

    names: ClassVar[tuple[str, ...]] = ("NemotronHForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "attention_bias": False,
        "mamba_hidden_act": "silu",
        "mamba_proj_bias": False,
        "mamba_ssm_cache_dtype": "float32",
        "mlp_bias": False,
        "mlp_hidden_act": "relu2",
        "residual_in_fp32": False,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_bias": False,
    }

    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    hybrid_override_pattern: str = Field(min_length=1)
    mamba_num_heads: int = Field(gt=0)
    mamba_head_dim: int = Field(gt=0)
    ssm_state_size: int = Field(gt=0)
    n_groups: int = Field(gt=0)
    conv_kernel: int = Field(gt=1)
    use_conv_bias: bool
    chunk_size: int = Field(gt=0)
    layer_norm_epsilon: float = Field(gt=0)
    n_routed_experts: int | None = Field(default=None, gt=0)
    num_experts_per_tok: int | None = Field(default=None, gt=0)
    moe_intermediate_size: int | None = Field(default=None, gt=0)
    moe_shared_expert_intermediate_size: int | None = Field(default=None, gt=0)
    moe_latent_size: int | None = Field(default=None, gt=0)
    n_group: int = Field(default=1, gt=0)
    topk_group: int = Field(default=1, gt=0)
    norm_topk_prob: bool = True
    routed_scaling_factor: float = Field(default=1.0, gt=0)
    num_nextn_predict_layers: int = Field(default=0, ge=0)
    mtp_hybrid_override_pattern: str = "*E"

    @model_validator(mode="after")
    def _parts_are_possible(self) -> Self:
        problems = list(self._part_problems())
        if problems:
            raise InputError(*problems)
        return self

    def _part_problems(self) -> Iterator[Problem]:
        pattern, n_layers = self.hybrid_override_pattern, self.num_hidden_layers
        path = "hybrid_override_pattern"
        if set(pattern) - set(_LETTERS):
            yield Problem(f"letters must be among {' '.join(_LETTERS)}", pattern, path=path)
        if len(pattern) != n_layers:
            yield Problem(f"must have a letter for each of {n_layers} layers", str(len(pattern)), path=path)
        if self.num_attention_heads % self.num_key_value_heads:
            given = str(self.num_key_value_heads)
            yield Problem("must divide num_attention_heads", given, path="num_key_value_heads")
        if self.mamba_num_heads % self.n_groups:
            yield Problem("must divide mamba_num_heads", str(self.n_groups), path="n_groups")
        if "E" in pattern:
            yield from self._missing_expert_figures()
        if self.num_nextn_predict_layers and self.mtp_hybrid_override_pattern != "*E":
            given = self.mtp_hybrid_override_pattern
            yield Problem("must be '*E' in this architecture", given, path="mtp_hybrid_override_pattern")

    def _missing_expert_figures(self) -> Iterator[Problem]:
        needed = (
            "n_routed_experts",
            "num_experts_per_tok",
            "moe_intermediate_size",
            "moe_shared_expert_intermediate_size",
        )
        for name in needed:
            if getattr(self, name) is None:
                yield Problem("must be given where layers have experts", path=name)

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields; a list of block types becomes the pattern."""
        kept = super().normalised(data)
        for key, field in (
            ("layers_block_type", "hybrid_override_pattern"),
            ("mtp_layers_block_type", "mtp_hybrid_override_pattern"),
        ):
            types = data.get(key)
            if isinstance(types, list):
                kept[field] = "".join(_BLOCK_TYPES.get(str(kind), "?") for kind in types)
        if "num_hidden_layers" not in kept and isinstance(kept.get("hybrid_override_pattern"), str):
            kept["num_hidden_layers"] = len(str(kept["hybrid_override_pattern"]))
        if "E" not in str(kept.get("hybrid_override_pattern")):
            return {key: value for key, value in kept.items() if key not in _OF_EXPERTS}
        return kept

    @property
    def blueprint(self) -> Blueprint:
        """A layer a letter; an MTP module is attention and experts in one layer."""
        kinds = {letter: self._layer(letter) for letter in sorted(set(self.hybrid_override_pattern))}
        predicting = self.num_nextn_predict_layers
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=tuple(kinds[letter] for letter in self.hybrid_override_pattern),
            norm_eps=self.layer_norm_epsilon,
            max_positions=self.max_position_embeddings,
            mtp_layers=(self._mtp_layer(),) * predicting if predicting else (),
        )

    def _layer(self, letter: str) -> LayerSpec:
        name = _LETTERS[letter]
        match letter:
            case "M":
                return LayerSpec(name, self._mamba, None)
            case "*":
                return LayerSpec(name, self._attention, None)
            case "-":
                return LayerSpec(name, None, self._mlp(self.intermediate_size))
            case _:
                return LayerSpec(name, None, self._mixture())

    def _mtp_layer(self) -> LayerSpec:
        return LayerSpec("moe_layer", self._attention, self._mixture())

    @property
    def _mamba(self) -> Mamba2Spec:
        return Mamba2Spec(
            heads=self.mamba_num_heads,
            head_dim=self.mamba_head_dim,
            groups=self.n_groups,
            state=self.ssm_state_size,
            conv=self.conv_kernel,
            conv_bias=self.use_conv_bias,
            chunk=self.chunk_size,
        )

    @property
    def _attention(self) -> AttentionSpec:
        return AttentionSpec(
            heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            rope=None,
            scale=self.head_dim**-0.5,
        )

    @staticmethod
    def _mlp(inter: int) -> FeedForwardSpec:
        return FeedForwardSpec(inter, Activation.RELU2, gated=False)

    def _mixture(self) -> MixtureSpec:
        experts, topk = self.n_routed_experts, self.num_experts_per_tok
        inter, shared = self.moe_intermediate_size, self.moe_shared_expert_intermediate_size
        assert experts and topk and inter and shared, "checked when the config was made"
        return MixtureSpec(
            experts=experts,
            topk=topk,
            inter=inter,
            scoring=Scoring.SIGMOID,
            normalise=self.norm_topk_prob,
            scale=self.routed_scaling_factor,
            groups=self.n_group,
            topk_groups=self.topk_group,
            balanced=True,
            activation=Activation.RELU2,
            gated=False,
            shared=self._mlp(shared),
            latent=self.moe_latent_size,
        )


#: fields that a file may give and a model without experts does not read
_OF_EXPERTS = frozenset(
    {
        "n_routed_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "moe_latent_size",
        "n_group",
        "topk_group",
        "norm_topk_prob",
        "routed_scaling_factor",
    }
)
