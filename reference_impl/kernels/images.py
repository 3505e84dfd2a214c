"""Kernel that turns an image's projected patches into the tokens of an encoder."""

import torch
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.registry import kernel


def _image_tokens_fake(patches_BSD: Tensor, class_D: Tensor, positions_TD: Tensor) -> Tensor:
    return patches_BSD.new_empty((patches_BSD.shape[0], *positions_TD.shape))


@kernel(
    "image_tokens",
    fake=_image_tokens_fake,
    inputs={"class_D": Role.WEIGHT, "positions_TD": Role.WEIGHT},
)
def image_tokens(patches_BSD: Tensor, class_D: Tensor, positions_TD: Tensor) -> Tensor:
    """The class token and the patches [B, 1 + S, D], each with the embedding of its place."""
    first_B1D = class_D.expand(patches_BSD.shape[0], 1, -1)
    return torch.cat([first_B1D, patches_BSD], 1) + positions_TD
