"""Vision transformers: a classifier of images, and an encoder whose tokens a language model reads.

DeepSeek V3 has no vision encoder. The encoder for it is a vision transformer whose patch tokens a single
product projects to the width of V3, as LLaVA does for its language model; its widths are stated as assumed.

References: ViT (arXiv 2010.11929) section 3.1; LLaVA (arXiv 2304.08485) section 4.1.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from hardware_specs.records.errors import Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.base import ArchitectureConfig
from model_graphs.architectures.bert import full_attention
from model_graphs.blueprint import (
    Activation,
    EncoderBlueprint,
    FeedForwardSpec,
    LayerSpec,
    Norm,
    PatchInput,
    Reads,
)


class VisionConfig(ArchitectureConfig):
    """What vision transformers for images of one size share."""

    fixed: ClassVar[Mapping[str, Plain]] = {"hidden_act": "gelu", "pooler_act": "tanh"}

    intermediate_size: int = Field(gt=0)
    layer_norm_eps: float = Field(gt=0)
    image_size: int = Field(gt=0)
    patch_size: int = Field(gt=0)
    num_channels: int = Field(gt=0)
    qkv_bias: bool

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """Other activations, and images that patches do not fill."""
        yield from super().foreign(data)
        image, patch = data.get("image_size"), data.get("patch_size")
        if isinstance(image, int) and isinstance(patch, int) and patch > 0 and image % patch:
            yield "patch_size", Problem("must divide image_size", str(patch))

    def encoder(self, outputs: int, reads: Reads) -> EncoderBlueprint:
        """The encoder under a head."""
        mlp = FeedForwardSpec(self.intermediate_size, Activation.GELU, gated=False, bias=True)
        attention = full_attention(self.hidden_size, self.num_attention_heads, bias=self.qkv_bias)
        patches = (self.image_size // self.patch_size) ** 2
        return EncoderBlueprint(
            vocab_size=0,
            hidden_size=self.hidden_size,
            layers=(LayerSpec("layer", attention, mlp),) * self.num_hidden_layers,
            norm_eps=self.layer_norm_eps,
            max_positions=patches + 1,
            norm=Norm.LAYER,
            source=PatchInput(patches, self.num_channels, self.patch_size),
            outputs=outputs,
            reads=reads,
        )


class VitConfig(VisionConfig):
    """Widths and counts of a vision transformer that classifies images."""

    names: ClassVar[tuple[str, ...]] = ("ViTForImageClassification",)

    num_labels: int = Field(gt=0)

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Its own fields; labels are counted where they are listed."""
        labels = data.get("id2label")
        counted = {"num_labels": len(labels)} if isinstance(labels, dict) else {}
        return super().normalised({"qkv_bias": True, **counted, **data})

    @property
    def blueprint(self) -> EncoderBlueprint:
        """Layers that are all alike; the class token is read."""
        return self.encoder(self.num_labels, Reads.CLASS_TOKEN)


class VitForDeepSeekV3Config(VisionConfig):
    """Widths and counts of a vision transformer whose patches become tokens of a language model."""

    names: ClassVar[tuple[str, ...]] = ("ViTForDeepseekV3",)

    text_hidden_size: int = Field(gt=0)

    @property
    def blueprint(self) -> EncoderBlueprint:
        """Layers that are all alike; the patches are projected to the width of the language model."""
        return self.encoder(self.text_hidden_size, Reads.PATCHES)
