"""Products whose partial sums over blocks of the inner width are added in few bits, compensated or not.

A matrix unit sums a block in fp32 here; what is studied is the adding of block sums. `bf16` rounds the
running sum after each block; `bf16_compensated` keeps what rounding lost in a second bf16 number and adds it
at the end (Neumaier's variant of Kahan's summation).

References: A. Neumaier, ZAMM 54 (1974), 39-51.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor

BLOCK = 128


def blocked_product(x: Tensor, weight_NK: Tensor, accumulation: str) -> Tensor:
    """Product of x [.., k] and the transposed weight [n, k], block sums added as `accumulation` says."""
    if accumulation == "fp32":
        return F.linear(x, weight_NK)
    pairs = zip(x.split(BLOCK, -1), weight_NK.split(BLOCK, -1), strict=True)
    return summed((F.linear(part.float(), block.float()) for part, block in pairs), accumulation)


def summed(terms: Iterable[Tensor], accumulation: str) -> Tensor:
    """The sum in fp32 of terms added one after the other in the precision named."""
    first, *others = terms
    if accumulation == "fp32":
        return sum(others, first)
    total = first.to(torch.bfloat16)
    lost = torch.zeros_like(total)
    for term in others:
        added = term.to(torch.bfloat16)
        new = total + added
        if accumulation == "bf16_compensated":
            larger, smaller = _ordered(total, added)
            lost = lost + ((larger - new) + smaller)
        total = new
    return total.float() + lost.float()


def _ordered(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both by magnitude, the larger first."""
    is_larger = a.abs() >= b.abs()
    return torch.where(is_larger, a, b), torch.where(is_larger, b, a)
