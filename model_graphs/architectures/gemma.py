"""Gemma, and Gemma 3's text model: embeddings scaled by the root of the width, gates by GELU's approximation.

Gemma 3 normalises before and after attention and MLP, and its layers are one with full attention after every
five with a window, which have a rotary base of their own. Norms multiply by one plus the published weight;
loading adds the one. Its vision tower is not modelled.

References: Gemma report (arXiv 2403.08295) section 2; Gemma 3 report (arXiv 2503.19786) section 2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.errors import Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.blueprint import (
    Activation,
    Arrangement,
    Blueprint,
    FeedForwardSpec,
    LayerSpec,
    QueryKeyNorm,
    RopeSpec,
)


class GemmaConfig(GroupedConfig):
    """Widths and counts of a Gemma model."""

    names: ClassVar[tuple[str, ...]] = ("GemmaForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {"attention_bias": False}

    head_dim: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields; the head is tied unless a file says otherwise."""
        return super().normalised({"tie_word_embeddings": True, **data})

    @property
    def feed_forward(self) -> FeedForwardSpec:
        """The MLP of every layer."""
        return FeedForwardSpec(self.intermediate_size, Activation.GELU_TANH)

    @property
    def blueprint(self) -> Blueprint:
        """Layers that are all alike."""
        return self._of(*(LayerSpec("layer", self.attention(), self.feed_forward),) * self.num_hidden_layers)

    def _of(self, *layers: LayerSpec) -> Blueprint:
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=layers,
            norm_eps=self.rms_norm_eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
            embedding_scale=self.hidden_size**0.5,
        )


class Gemma3Config(GemmaConfig):
    """Widths and counts of the text model of a Gemma 3 model."""

    names: ClassVar[tuple[str, ...]] = ("Gemma3ForConditionalGeneration", "Gemma3ForCausalLM")
    fixed: ClassVar[Mapping[str, Plain]] = {
        "attention_bias": False,
        "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
    }

    query_pre_attn_scalar: int = Field(gt=0)
    sliding_window: int = Field(gt=0)
    sliding_window_pattern: int = Field(gt=0)
    rope_local_base_freq: float = Field(gt=0)

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """Keys of the text model that have another value."""
        yield from super().foreign(text_of(data))

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """The text model's figures."""
        return super().normalised(text_of(data))

    @property
    def blueprint(self) -> Blueprint:
        """Every `sliding_window_pattern`-th layer has full attention, the others a window."""
        sliding = self._layer("sliding_layer", window=self.sliding_window)
        full = self._layer("full_layer", window=None)
        numbers = range(1, self.num_hidden_layers + 1)
        return self._of(*(full if n % self.sliding_window_pattern == 0 else sliding for n in numbers))

    def _layer(self, name: str, window: int | None) -> LayerSpec:
        attention = self.attention(norm=QueryKeyNorm.HEAD, window=window)
        local = RopeSpec(self.head_width, self.rope_local_base_freq)
        attention = replace(
            attention,
            scale=self.query_pre_attn_scalar**-0.5,
            rope=local if window else attention.rope,
        )
        return LayerSpec(name, attention, self.feed_forward, Arrangement.SANDWICH)


def text_of(data: Mapping[str, Plain]) -> Mapping[str, Plain]:
    """The figures of the text model inside the `config.json` of a model that sees images."""
    text = data.get("text_config")
    return text if isinstance(text, dict) else data
