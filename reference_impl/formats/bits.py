"""Whole numbers of a few bits packed into bytes, least significant bit first."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor


def pack_bits(codes: Tensor, n_bits: int) -> Tensor:
    """Bytes [.., ceil(m x bits / 8)] of codes [.., m] in 0 to 2^bits - 1; zeros fill the last byte."""
    shifts = torch.arange(n_bits, device=codes.device)
    stream = (codes.unsqueeze(-1).int() >> shifts & 1).flatten(-2)
    stream = F.pad(stream, (0, -stream.shape[-1] % 8)).unflatten(-1, (-1, 8))
    return (stream << torch.arange(8, device=codes.device)).sum(-1).to(torch.uint8)


def unpack_bits(packed: Tensor, n_bits: int, n_codes: int) -> Tensor:
    """The codes [.., m] of bytes, as 32-bit integers."""
    stream = (packed.unsqueeze(-1).int() >> torch.arange(8, device=packed.device) & 1).flatten(-2)
    codes = stream[..., : n_codes * n_bits].unflatten(-1, (n_codes, n_bits))
    return (codes << torch.arange(n_bits, device=packed.device)).sum(-1)
