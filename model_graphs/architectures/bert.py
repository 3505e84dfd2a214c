"""BERT as an encoder with a head for extractive question answering, which scores each token as start and end.

The published pre-training checkpoints hold a pooler and heads for masked tokens and next sentences instead,
which answering questions does not use.

References: BERT (arXiv 1810.04805) sections 3 and 4.2.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.base import ModelConfig
from model_graphs.blueprint import (
    Activation,
    Arrangement,
    AttentionSpec,
    EncoderBlueprint,
    FeedForwardSpec,
    LayerSpec,
    Norm,
    TokenInput,
)


class BertConfig(ModelConfig):
    """Widths and counts of a BERT model."""

    names: ClassVar[tuple[str, ...]] = ("BertForQuestionAnswering",)
    fixed: ClassVar[Mapping[str, Plain]] = {"hidden_act": "gelu", "position_embedding_type": "absolute"}

    intermediate_size: int = Field(gt=0)
    type_vocab_size: int = Field(gt=0)
    layer_norm_eps: float = Field(gt=0)

    @property
    def blueprint(self) -> EncoderBlueprint:
        """Layers that are all alike, with a norm after each sum."""
        mlp = FeedForwardSpec(self.intermediate_size, Activation.GELU, gated=False, bias=True)
        attention = full_attention(self.hidden_size, self.num_attention_heads, bias=True)
        return EncoderBlueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(LayerSpec("layer", attention, mlp, Arrangement.POST_NORM),) * self.num_hidden_layers,
            norm_eps=self.layer_norm_eps,
            max_positions=self.max_position_embeddings,
            norm=Norm.LAYER,
            source=TokenInput(self.vocab_size, self.max_position_embeddings, self.type_vocab_size),
            outputs=2,
        )


def full_attention(width: int, heads: int, *, bias: bool) -> AttentionSpec:
    """Attention of every token to all others; `bias` is that of queries, keys and values."""
    head_dim = width // heads
    return AttentionSpec(
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        rope=None,
        scale=head_dim**-0.5,
        qkv_bias=bias,
        out_bias=True,
        causal=False,
    )
