"""Qwen3.5 with experts: gated DeltaNet layers, and gated attention in every fourth one. The text model alone.

References: Gated DeltaNet (arXiv 2412.06464); gated attention (arXiv 2505.06708); the vision tower of the
published model is left out.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.base import ModelConfig
from model_graphs.blueprint import (
    AttentionSpec,
    Blueprint,
    DeltaNetSpec,
    FeedForwardSpec,
    LayerSpec,
    MixtureSpec,
    QueryKeyNorm,
    RopeSpec,
    Scoring,
)

LayerType = Literal["linear_attention", "full_attention"]


class Qwen35MoeConfig(ModelConfig):
    """Widths and counts of a Qwen3.5 model with experts."""

    names: ClassVar[tuple[str, ...]] = ("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM")
    fixed: ClassVar[Mapping[str, Plain]] = {
        "attention_bias": False,
        "attn_output_gate": True,
        "hidden_act": "silu",
        "mamba_ssm_dtype": "float32",
        "mlp_only_layers": [],
        "mtp_use_dedicated_embeddings": False,
    }

    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    layer_types: tuple[LayerType, ...]
    linear_conv_kernel_dim: int = Field(gt=1)
    linear_key_head_dim: int = Field(gt=0)
    linear_num_key_heads: int = Field(gt=0)
    linear_num_value_heads: int = Field(gt=0)
    linear_value_head_dim: int = Field(gt=0)
    moe_intermediate_size: int = Field(gt=0)
    shared_expert_intermediate_size: int = Field(gt=0)
    num_experts: int = Field(gt=0)
    num_experts_per_tok: int = Field(gt=0)
    mtp_num_hidden_layers: int = Field(ge=0)
    rms_norm_eps: float = Field(gt=0)
    rope_theta: float = Field(gt=0)
    partial_rotary_factor: float = Field(gt=0, le=1)
    tie_word_embeddings: bool

    @model_validator(mode="after")
    def _parts_are_possible(self) -> Self:
        problems = list(self._part_problems())
        if problems:
            raise InputError(*problems)
        return self

    def _part_problems(self) -> Iterator[Problem]:
        if len(self.layer_types) != self.num_hidden_layers:
            requirement = f"must name each of {self.num_hidden_layers} layers"
            yield Problem(requirement, str(len(self.layer_types)), path="layer_types")
        for part, whole in (
            ("num_key_value_heads", "num_attention_heads"),
            ("linear_num_key_heads", "linear_num_value_heads"),
        ):
            if getattr(self, whole) % getattr(self, part):
                yield Problem(f"must divide {whole}", str(getattr(self, part)), path=part)

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """Keys of the text model that cannot be expressed, and stretched rotary positions."""
        text = _text_model(data)
        yield from super().foreign(text)
        rope = text.get("rope_parameters")
        kind = rope.get("rope_type", "default") if isinstance(rope, dict) else "default"
        if kind != "default":
            yield "rope_parameters", Problem("rope_type must be 'default' in this architecture", repr(kind))

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields of the text model, rotary figures and the layer types spelled out."""
        text = {"tie_word_embeddings": False, "mtp_num_hidden_layers": 0, **data, **_text_model(data)}
        rope = text.get("rope_parameters")
        if isinstance(rope, dict):
            text |= {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
        interval, n_layers = text.get("full_attention_interval", 4), text.get("num_hidden_layers")
        if text.get("layer_types") is None and isinstance(interval, int) and isinstance(n_layers, int):
            text["layer_types"] = [
                "linear_attention" if i % interval else "full_attention" for i in range(1, n_layers + 1)
            ]
        return super().normalised(text)

    @property
    def blueprint(self) -> Blueprint:
        """Layers by their type; an MTP module holds one with attention."""
        kinds = {"linear_attention": self._linear_layer, "full_attention": self._attention_layer}
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=tuple(kinds[kind] for kind in self.layer_types),
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
            mtp_layers=(self._attention_layer,) * self.mtp_num_hidden_layers,
        )

    @property
    def _linear_layer(self) -> LayerSpec:
        delta_net = DeltaNetSpec(
            key_heads=self.linear_num_key_heads,
            value_heads=self.linear_num_value_heads,
            key_dim=self.linear_key_head_dim,
            value_dim=self.linear_value_head_dim,
            conv=self.linear_conv_kernel_dim,
        )
        return LayerSpec("linear_attention_layer", delta_net, self._mixture)

    @property
    def _attention_layer(self) -> LayerSpec:
        attention = AttentionSpec(
            heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            rope=RopeSpec(int(self.head_dim * self.partial_rotary_factor), self.rope_theta),
            scale=self.head_dim**-0.5,
            norm=QueryKeyNorm.HEAD,
            gated=True,
        )
        return LayerSpec("full_attention_layer", attention, self._mixture)

    @property
    def _mixture(self) -> MixtureSpec:
        return MixtureSpec(
            experts=self.num_experts,
            topk=self.num_experts_per_tok,
            inter=self.moe_intermediate_size,
            scoring=Scoring.SOFTMAX,
            normalise=True,
            shared=FeedForwardSpec(self.shared_expert_intermediate_size),
            shared_gate=True,
        )


def _text_model(data: Mapping[str, Plain]) -> Mapping[str, Plain]:
    """The figures of the text model in a file that may describe a vision tower beside it."""
    text = data.get("text_config")
    return text if isinstance(text, dict) else data
