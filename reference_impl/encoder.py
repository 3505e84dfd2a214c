"""An encoder, read downwards: input, layers, head. What it is made of, its blueprint says.

Dimensions in names: B sequences or images, S tokens of each, D hidden. Every token sees all others and
nothing is cached. Inputs are tokens with their types and positions, or the pixels of patches; an image's
patches are cut out before. `block` says to which block of the graph a module's operators belong.

References: BERT (arXiv 1810.04805) section 3; ViT (arXiv 2010.11929) section 3.1.
"""

import torch
from torch import Tensor, nn

from model_graphs.blueprint import (
    AttentionSpec,
    EncoderBlueprint,
    LayerSpec,
    PatchInput,
    Reads,
    TokenInput,
)
from reference_impl import kernels
from reference_impl.decoder import feed_forward_of, of_dtype
from reference_impl.layers import (
    Add,
    AddLayerNorm,
    Embedding,
    Layer,
    LayerNorm,
    Linear,
    Lookup,
    SumLayerNorm,
    parameter,
)
from reference_impl.parts.attention import BidirectionalAttention


def _attention(layer: LayerSpec, width: int) -> BidirectionalAttention:
    assert isinstance(layer.mixer, AttentionSpec), "encoders have no latent attention"
    return BidirectionalAttention(layer.mixer, width)


class PostNormLayer(nn.Module):
    """Attention, then an MLP; the stream is normalised after each sum."""

    def __init__(self, layer: LayerSpec, blueprint: EncoderBlueprint) -> None:
        super().__init__()
        width, eps = blueprint.hidden_size, blueprint.norm_eps
        self.self_attn = _attention(layer, width)
        self.attention_norm = SumLayerNorm(width, eps)
        self.mlp = feed_forward_of(layer, blueprint)
        self.closing_norm = SumLayerNorm(width, eps)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """The stream."""
        x_BSD = self.attention_norm(self.self_attn(x_BSD), x_BSD)
        return self.closing_norm(self.mlp(x_BSD), x_BSD)


class PreNormLayer(nn.Module):
    """Attention, then an MLP; the residual stream runs beside the normalised one, as in a decoder."""

    def __init__(self, layer: LayerSpec, blueprint: EncoderBlueprint) -> None:
        super().__init__()
        width, eps = blueprint.hidden_size, blueprint.norm_eps
        self.self_attn = _attention(layer, width)
        self.attention_norm = AddLayerNorm(width, eps)
        self.mlp = feed_forward_of(layer, blueprint)
        self.closing_norm = AddLayerNorm(width, eps)

    def forward(self, x_BSD: Tensor, residual_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """The stream normalised for what follows, and the stream."""
        x_BSD, residual_BSD = self.attention_norm(self.self_attn(x_BSD), residual_BSD)
        return self.closing_norm(self.mlp(x_BSD), residual_BSD)


class TokenEmbeddings(nn.Module):
    """Embeddings of tokens, their types and positions, summed and normalised."""

    def __init__(self, source: TokenInput, width: int, eps: float) -> None:
        super().__init__()
        self.embed_tokens = Embedding(source.vocab_size, width)
        self.embed_types = Lookup(source.types, width)
        self.add_types = Add("embedding")
        self.embed_positions = Lookup(source.positions, width)
        self.norm = SumLayerNorm(width, eps)
        for module in self.children():
            module.block = ("embedding", 0)

    def forward(self, ids_BS: Tensor, types_BS: Tensor, positions_BS: Tensor) -> Tensor:
        """The stream [B, S, D]."""
        x_BSD = self.add_types(self.embed_tokens(ids_BS), self.embed_types(types_BS))
        return self.norm(self.embed_positions(positions_BS), x_BSD)


class ImageTokens(Layer):
    """The class token before the patches, each with the embedding of its place."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__("embedding")
        self.class_token = parameter(width)
        self.positions = parameter(patches + 1, width)

    def forward(self, patches_BSD: Tensor) -> Tensor:
        """The stream [B, 1 + S, D]."""
        return kernels.image_tokens(patches_BSD, self.class_token, self.positions)


class PatchEmbeddings(nn.Module):
    """Projections of patches, after a class token, with learned positions."""

    block = ("embedding", 0)

    def __init__(self, source: PatchInput, width: int) -> None:
        super().__init__()
        self.source = source
        self.project = Linear(source.pixels, width, "embedding", bias=True)
        self.tokens = ImageTokens(source.patches, width)

    def forward(self, pixels_BSP: Tensor) -> Tensor:
        """The stream [B, 1 + S, D] of patches [B, S, channels x height x width]."""
        return self.tokens(self.project(pixels_BSP))


class TextEncoder(nn.Module):
    """An encoder of tokens with a head over every one."""

    def __init__(self, blueprint: EncoderBlueprint, source: TokenInput) -> None:
        super().__init__()
        width = blueprint.hidden_size
        self.blueprint = blueprint
        self.embeddings = TokenEmbeddings(source, width, blueprint.norm_eps)
        self.layers = nn.ModuleList(PostNormLayer(layer, blueprint) for layer in blueprint.layers)
        self.head = Linear(width, blueprint.outputs, "head", bias=True)
        _name_blocks(self, blueprint)

    def forward(self, ids_BS: Tensor, types_BS: Tensor, positions_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the head [B, S, outputs], and the last hidden states [B, S, D]."""
        x_BSD = self.embeddings(ids_BS, types_BS, positions_BS)
        for layer in self.layers:
            x_BSD = layer(x_BSD)
        return self.head(x_BSD), x_BSD


class ImageEncoder(nn.Module):
    """An encoder of patches with a head over the class token or over the patches."""

    def __init__(self, blueprint: EncoderBlueprint, source: PatchInput) -> None:
        super().__init__()
        width = blueprint.hidden_size
        self.blueprint = blueprint
        self.embeddings = PatchEmbeddings(source, width)
        self.opening_norm = LayerNorm(width, blueprint.norm_eps)
        self.opening_norm.block = ("embedding", 0)
        self.layers = nn.ModuleList(PreNormLayer(layer, blueprint) for layer in blueprint.layers)
        self.head = Linear(width, blueprint.outputs, "head", bias=True)
        _name_blocks(self, blueprint)

    def forward(self, pixels_BSP: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the head [B, outputs] or [B, S, outputs], and the last hidden states [B, 1 + S, D]."""
        residual_BSD = self.embeddings(pixels_BSP)
        x_BSD = self.opening_norm(residual_BSD)
        for layer in self.layers:
            x_BSD, residual_BSD = layer(x_BSD, residual_BSD)
        read = x_BSD[:, 0] if self.blueprint.reads is Reads.CLASS_TOKEN else x_BSD[:, 1:]
        return self.head(read), x_BSD


Encoder = TextEncoder | ImageEncoder


def _name_blocks(encoder: nn.Module, blueprint: EncoderBlueprint) -> None:
    for index, (spec, layer) in enumerate(zip(blueprint.layers, encoder.layers, strict=True)):
        layer.block = (spec.name, index)
    encoder.head.block = ("head", 0)


def build_encoder(
    blueprint: EncoderBlueprint, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Encoder:
    """The encoder with uninitialised weights; on device `meta` it holds none."""
    source = blueprint.source
    with of_dtype(dtype), torch.device(device):
        if isinstance(source, TokenInput):
            return TextEncoder(blueprint, source).eval()
        return ImageEncoder(blueprint, source).eval()


def patches_of(images_BCHW: Tensor, size: int) -> Tensor:
    """The patches of images row by row [B, S, channels x size x size]."""
    rows_BCYXhw = images_BCHW.unfold(2, size, size).unfold(3, size, size)
    return rows_BCYXhw.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2).contiguous()
