"""Llama 4's text model: chunked attention, layers without positions, experts that read scaled inputs.

Three layers of four rotate queries and keys and attend inside chunks; the fourth sees everything, knows no
positions, and lets queries grow with their position. Where queries and keys are normalised, they are so
without weights and after the rotation, which keeps their length: the order makes no difference. The vision
tower is not modelled.

References: config.json and model card of meta-llama/Llama-4-Scout-17B-16E; iRoPE is described in Meta's
announcement "The Llama 4 herd" (2025-04-05).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.errors import Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.architectures.gemma import text_of
from model_graphs.blueprint import (
    AttentionSpec,
    Blueprint,
    FeedForwardSpec,
    LayerSpec,
    MixtureSpec,
    QueryKeyNorm,
    Scoring,
    TemperatureSpec,
)


class Llama4Config(GroupedConfig):
    """Widths and counts of the text model of a Llama 4 model."""

    names: ClassVar[tuple[str, ...]] = ("Llama4ForConditionalGeneration", "Llama4ForCausalLM")
    fixed: ClassVar[Mapping[str, Plain]] = {"hidden_act": "silu", "attention_bias": False}

    head_dim: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    intermediate_size_mlp: int = Field(gt=0)
    interleave_moe_layer_step: int = Field(gt=0)
    num_local_experts: int = Field(gt=0)
    num_experts_per_tok: int = Field(gt=0)
    attention_chunk_size: int = Field(gt=0)
    use_qk_norm: bool
    no_rope_layers: tuple[int, ...]
    attn_temperature_tuning: bool
    floor_scale: int = Field(gt=0)
    attn_scale: float = Field(gt=0)

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """Keys of the text model that have another value."""
        yield from super().foreign(text_of(data))

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """The text model's figures; which layers rotate follows from their number where a file is silent."""
        text = dict(text_of(data))
        layers = text.get("num_hidden_layers")
        if not text.get("no_rope_layers") and isinstance(layers, int):
            interval = text.get("no_rope_layer_interval", 4)
            assert isinstance(interval, int), "an interval is a count of layers"
            text["no_rope_layers"] = [int((i + 1) % interval != 0) for i in range(layers)]
        return super().normalised(text)

    @property
    def blueprint(self) -> Blueprint:
        """Every `interleave_moe_layer_step`-th layer has experts, the others a wider MLP."""
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=tuple(self._layer(i, rotates=bool(flag)) for i, flag in enumerate(self.no_rope_layers)),
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
        )

    def _layer(self, index: int, *, rotates: bool) -> LayerSpec:
        attention = "chunked" if rotates else "full"
        mixer = self._chunked if rotates else self._full
        if (index + 1) % self.interleave_moe_layer_step:
            dense = FeedForwardSpec(self.intermediate_size_mlp)
            return LayerSpec(f"{attention}_dense_layer", mixer, dense)
        return LayerSpec(f"{attention}_moe_layer", mixer, self._mixture)

    @property
    def _chunked(self) -> AttentionSpec:
        norm = QueryKeyNorm.HEAD_PLAIN if self.use_qk_norm else QueryKeyNorm.NONE
        attention = self.attention(norm=norm, window=self.attention_chunk_size)
        assert attention.rope is not None, "chunked layers rotate"
        return replace(attention, chunked=True, rope=replace(attention.rope, neighbours=True))

    @property
    def _full(self) -> AttentionSpec:
        grows = TemperatureSpec(self.attn_scale, self.floor_scale) if self.attn_temperature_tuning else None
        return replace(self.attention(), rope=None, temperature=grows)

    @property
    def _mixture(self) -> MixtureSpec:
        return MixtureSpec(
            experts=self.num_local_experts,
            topk=self.num_experts_per_tok,
            inter=self.intermediate_size,
            scoring=Scoring.SIGMOID,
            normalise=False,
            shared=FeedForwardSpec(self.intermediate_size),
            weighs_inputs=True,
        )
