"""Decoders with layer norms and biases: GPT-J, BLOOM, OPT, Phi-2, StableLM.

References: GPT-J-6B's code (Mesh Transformer JAX); BLOOM (arXiv 2211.05100) section 3.2; OPT (arXiv
2205.01068) section 2; Phi-1.5 (arXiv 2309.05463) section 2.1; Stable LM 2 (arXiv 2402.17834) section 3.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.base import ModelConfig
from model_graphs.architectures.dense import Scaling, with_rope_type
from model_graphs.blueprint import (
    Activation,
    Arrangement,
    AttentionSpec,
    Blueprint,
    FeedForwardSpec,
    LayerSpec,
    LearnedPositions,
    Norm,
    RopeSpec,
)

_Spellings = Mapping[str, str]  # older key by ours


class LayerNormedConfig(ModelConfig):
    """What these decoders share: layers that are all alike, every head with keys and values of its own."""

    spellings: ClassVar[_Spellings] = {}

    tie_word_embeddings: bool

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields, which older files spell in other words."""
        renamed = {own: data[old] for own, old in cls.spellings.items() if old in data}
        return super().normalised({**data, **renamed})

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads

    def attention(self, rope: RopeSpec | None = None, *, bias: bool = True) -> AttentionSpec:
        """Attention over all tokens; `bias` is that of every projection."""
        return AttentionSpec(
            heads=self.num_attention_heads,
            kv_heads=self.num_attention_heads,
            head_dim=self.head_width,
            rope=rope,
            scale=self.head_width**-0.5,
            qkv_bias=bias,
            out_bias=bias,
        )

    def stack(self, layer: LayerSpec, eps: float) -> Blueprint:
        """The model of `num_hidden_layers` such layers."""
        return Blueprint(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            layers=(layer,) * self.num_hidden_layers,
            norm_eps=eps,
            max_positions=self.max_position_embeddings,
            tied_embeddings=self.tie_word_embeddings,
            norm=Norm.LAYER,
        )


class GptJConfig(LayerNormedConfig):
    """Widths and counts of a GPT-J model; the feed-forward width is four times the hidden one."""

    names: ClassVar[tuple[str, ...]] = ("GPTJForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "activation_function": "gelu_new",
        "rotary": True,
        "n_inner": None,
    }
    spellings: ClassVar[_Spellings] = {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    }

    rotary_dim: int = Field(gt=0, multiple_of=2)
    layer_norm_epsilon: float = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Attention without biases beside an MLP with them; the head has one."""
        attention = self.attention(RopeSpec(self.rotary_dim, 10000.0, neighbours=True), bias=False)
        mlp = FeedForwardSpec(4 * self.hidden_size, Activation.GELU_TANH, gated=False, bias=True)
        layer = LayerSpec("layer", attention, mlp, Arrangement.PARALLEL)
        return replace(self.stack(layer, self.layer_norm_epsilon), head_bias=True)


class BloomConfig(LayerNormedConfig):
    """Widths and counts of a BLOOM model; the feed-forward width is four times the hidden one."""

    names: ClassVar[tuple[str, ...]] = ("BloomForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {"apply_residual_connection_post_layernorm": False}
    spellings: ClassVar[_Spellings] = {
        "hidden_size": "n_embed",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "seq_length",
    }

    layer_norm_epsilon: float = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Positions are slopes of the heads; embeddings are normalised."""
        attention = replace(self.attention(), alibi=True)
        mlp = FeedForwardSpec(4 * self.hidden_size, Activation.GELU_TANH, gated=False, bias=True)
        layer = LayerSpec("layer", attention, mlp)
        return replace(self.stack(layer, self.layer_norm_epsilon), embedding_norm=True)


class OptConfig(LayerNormedConfig):
    """Widths and counts of an OPT model."""

    names: ClassVar[tuple[str, ...]] = ("OPTForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "activation_function": "relu",
        "do_layer_norm_before": True,
        "enable_bias": True,
        "layer_norm_elementwise_affine": True,
        "_remove_final_layer_norm": False,
    }

    ffn_dim: int = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """Positions are learned, in rows that begin two further on."""
        mlp = FeedForwardSpec(self.ffn_dim, Activation.RELU, gated=False, bias=True)
        positions = LearnedPositions(self.max_position_embeddings + 2, offset=2)
        layer = LayerSpec("layer", self.attention(), mlp)
        return replace(self.stack(layer, eps=1e-5), learned_positions=positions)


class PartlyRotatedConfig(LayerNormedConfig):
    """Decoders of this kind that rotate a part of each head."""

    intermediate_size: int = Field(gt=0)
    partial_rotary_factor: float = Field(gt=0, le=1)
    layer_norm_eps: float = Field(gt=0)
    rope_theta: float = Field(gt=0)
    rope_scaling: Scaling | None = Field(discriminator="rope_type")

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields; an older file leaves positions unscaled by saying nothing."""
        kept = super().normalised({"rope_scaling": None, **data})
        kept["rope_scaling"] = with_rope_type(kept["rope_scaling"])
        return kept

    @property
    def rope(self) -> RopeSpec:
        """The rotated part of a head."""
        scaling = self.rope_scaling.spec() if self.rope_scaling is not None else None
        return RopeSpec(int(self.partial_rotary_factor * self.head_width), self.rope_theta, scaling)


class PhiConfig(PartlyRotatedConfig):
    """Widths and counts of a Phi-1 to Phi-2 model."""

    names: ClassVar[tuple[str, ...]] = ("PhiForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {"hidden_act": "gelu_new", "qk_layernorm": False}

    @property
    def blueprint(self) -> Blueprint:
        """Attention beside the MLP; every projection and the head have biases."""
        mlp = FeedForwardSpec(self.intermediate_size, Activation.GELU_TANH, gated=False, bias=True)
        layer = LayerSpec("layer", self.attention(self.rope), mlp, Arrangement.PARALLEL)
        return replace(self.stack(layer, self.layer_norm_eps), head_bias=True)


class StableLmConfig(PartlyRotatedConfig):
    """Widths and counts of a Stable LM model whose heads are not grouped."""

    names: ClassVar[tuple[str, ...]] = ("StableLmForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        "hidden_act": "silu",
        "use_parallel_residual": False,
        "qk_layernorm": False,
    }

    use_qkv_bias: bool

    @property
    def blueprint(self) -> Blueprint:
        """Llama's layer with layer norms and biased queries, keys and values."""
        attention = replace(self.attention(self.rope), qkv_bias=self.use_qkv_bias, out_bias=False)
        layer = LayerSpec("layer", attention, FeedForwardSpec(self.intermediate_size))
        return self.stack(layer, self.layer_norm_eps)
