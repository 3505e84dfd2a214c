"""What decoders with grouped attention share: head widths, rotary positions and how they are stretched."""

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.base import ModelConfig, Record, yarn_magnitude
from model_graphs.blueprint import (
    AttentionSpec,
    LinearScaling,
    Llama3Scaling,
    QueryKeyNorm,
    RopeSpec,
    YarnScaling,
)


class Linear(Record):
    """Positions divided by a factor."""

    rope_type: Literal["linear"]
    factor: float = Field(gt=0)

    def spec(self) -> LinearScaling:
        """The scaling as the reference implementation takes it."""
        return LinearScaling(self.factor)


class Llama3(Record):
    """Llama 3.1's stretch by wavelength."""

    rope_type: Literal["llama3"]
    factor: float = Field(gt=0)
    low_freq_factor: float = Field(gt=0)
    high_freq_factor: float = Field(gt=0)
    original_max_position_embeddings: int = Field(gt=0)

    def spec(self) -> Llama3Scaling:
        """The scaling as the reference implementation takes it."""
        original = self.original_max_position_embeddings
        return Llama3Scaling(self.factor, self.low_freq_factor, self.high_freq_factor, original)


class Yarn(Record):
    """YaRN with the usual correction of sines and cosines."""

    rope_type: Literal["yarn"]
    factor: float = Field(gt=0)
    original_max_position_embeddings: int = Field(gt=0)
    beta_fast: float = Field(default=32.0, gt=0)
    beta_slow: float = Field(default=1.0, gt=0)
    truncate: bool = True

    def spec(self) -> YarnScaling:
        """The scaling as the reference implementation takes it."""
        original, magnitude = self.original_max_position_embeddings, yarn_magnitude(self.factor)
        return YarnScaling(
            self.factor, original, self.beta_fast, self.beta_slow, magnitude, truncate=self.truncate
        )


Scaling = Linear | Llama3 | Yarn


def with_rope_type(scaling: Plain) -> Plain:
    """A `rope_scaling` whose kind is under `rope_type`, where older files have it under `type`."""
    if not isinstance(scaling, dict):
        return scaling
    kind = scaling.get("rope_type", scaling.get("type"))
    return {"rope_type": kind, **{k: v for k, v in scaling.items() if k not in ("type", "rope_type")}}


class GroupedConfig(ModelConfig):
    """A decoder whose layers have grouped attention with rotary positions and RMS norms."""

    num_key_value_heads: int = Field(gt=0)
    rms_norm_eps: float = Field(gt=0)
    rope_theta: float = Field(gt=0)
    rope_scaling: Scaling | None = Field(discriminator="rope_type")
    tie_word_embeddings: bool

    @model_validator(mode="after")
    def _heads_group(self) -> Self:
        problems = list(self._head_problems())
        if problems:
            raise InputError(*problems)
        return self

    def _head_problems(self) -> Iterator[Problem]:
        if self.num_attention_heads % self.num_key_value_heads:
            given = str(self.num_key_value_heads)
            yield Problem("must divide num_attention_heads", given, path="num_key_value_heads")

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields, and what an older file leaves out: keys of every head, positions not scaled."""
        heads = data.get("num_attention_heads", 0)
        older = {"num_key_value_heads": heads, "rope_theta": 10000.0, "rope_scaling": None}
        kept = super().normalised({**older, "tie_word_embeddings": False, **data})
        kept["rope_scaling"] = with_rope_type(kept["rope_scaling"])
        return kept

    @property
    def head_width(self) -> int:
        """Width of a head: `head_dim` where the architecture has it, else the hidden size over the heads."""
        return getattr(self, "head_dim", None) or self.hidden_size // self.num_attention_heads

    def attention(
        self,
        *,
        qkv_bias: bool = False,
        out_bias: bool = False,
        norm: QueryKeyNorm = QueryKeyNorm.NONE,
        window: int | None = None,
        sinks: bool = False,
        rope_width: int | None = None,
    ) -> AttentionSpec:
        """The attention of a layer; `rope_width` is the rotated part of a head, all of it by default."""
        scaling = self.rope_scaling.spec() if self.rope_scaling is not None else None
        return AttentionSpec(
            heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads,
            head_dim=self.head_width,
            rope=RopeSpec(rope_width or self.head_width, self.rope_theta, scaling),
            scale=self.head_width**-0.5,
            window=window,
            qkv_bias=qkv_bias,
            out_bias=out_bias,
            norm=norm,
            sinks=sinks,
        )
