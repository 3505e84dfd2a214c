"""How the values of a published tensor are stored, read into a view and made from one.

| form | tensors of the file | value |
|---|---|---|
| plain | `X` in BF16, F16 or F32 | as it is |
| fp8_block | `X` in F8_E4M3, `X_scale_inv` in F32 for blocks of 128 x 128 | element times its block's scale |
| fp8 | `X` in F8_E4M3, `X_scale` for the tensor or for each row | element times scale |
| mxfp4 | `X_blocks` with two e2m1 elements a byte, `X_scales`, a power of two for 32 elements | product |

Values are read strip by strip: no more than 128 rows, or one expert, are held beside file and model.

References: DeepSeek-V3 report (arXiv 2412.19437) section 3.3; OCP Microscaling specification 1.0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from hardware_specs.records.errors import Problem
from reference_impl.checkpoints.headers import Entry
from reference_impl.checkpoints.pieces import Piece

BLOCK = 128
GROUP = 32
E4M3_LARGEST = 448.0
#: magnitudes of e2m1 by code; the fourth bit is the sign
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_EXPONENT_BIAS = 127
_PLAIN = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class Form:
    """A form by name, and the tensors that hold a piece in it: values, then scales."""

    name: str
    tensors: tuple[str, ...]


def form_of(piece: Piece, entries: Mapping[str, Entry]) -> Form | Problem:
    """How the piece is stored, or what is wrong with what stores it; its first tensor must exist."""
    if f"{piece.name}_blocks" in entries:
        return _packed(piece, entries)
    entry = entries[piece.name]
    if entry.shape != piece.shape:
        return _problem(entry, f"must have the shape {list(piece.shape)}", str(list(entry.shape)))
    if entry.dtype in _PLAIN:
        return Form("plain", (piece.name,))
    if entry.dtype == "F8_E4M3":
        return _scaled(piece, entry, entries)
    return _problem(entry, f"must be stored in {', '.join(_PLAIN)} or F8_E4M3 with scales", entry.dtype)


def _scaled(piece: Piece, entry: Entry, entries: Mapping[str, Entry]) -> Form | Problem:
    blocked, whole = entries.get(f"{piece.name}_scale_inv"), entries.get(f"{piece.name}_scale")
    if blocked is not None and len(piece.shape) == 2:
        wanted = tuple(ceil(size / BLOCK) for size in piece.shape)
        if blocked.shape != wanted or blocked.dtype not in _PLAIN:
            return _problem(blocked, f"must be scales of shape {list(wanted)}", _described(blocked))
        return Form("fp8_block", (piece.name, blocked.name))
    if whole is not None and len(piece.shape) == 2:
        if whole.shape not in ((), (1,), (piece.shape[0], 1)) or whole.dtype not in _PLAIN:
            return _problem(whole, "must be one scale or one a row", _described(whole))
        return Form("fp8", (piece.name, whole.name))
    return _problem(entry, f"must have scales in {piece.name}_scale_inv or {piece.name}_scale", "none")


def _packed(piece: Piece, entries: Mapping[str, Entry]) -> Form | Problem:
    blocks, scales = entries[f"{piece.name}_blocks"], entries.get(f"{piece.name}_scales")
    groups = (*piece.shape[:-1], piece.shape[-1] // GROUP)
    if blocks.shape != (*groups, GROUP // 2) or blocks.dtype != "U8":
        return _problem(blocks, f"must be U8 of shape {[*groups, GROUP // 2]}", _described(blocks))
    if scales is None:
        return _problem(blocks, f"must have scales in {piece.name}_scales", "none")
    if scales.shape != groups or scales.dtype not in ("U8", "F8_E8M0"):
        return _problem(scales, f"must be U8 of shape {list(groups)}", _described(scales))
    return Form("mxfp4", (blocks.name, scales.name))


def _described(entry: Entry) -> str:
    return f"{entry.dtype} of shape {list(entry.shape)}"


def _problem(entry: Entry, requirement: str, given: str) -> Problem:
    return Problem(requirement, given, entry.file, path=entry.name)


def read_into(view: Tensor, form: str, tensors: tuple[Tensor, ...]) -> None:
    """Copy what the tensors of a form stand for into a view of the model."""
    _READERS[form](view, *tensors)


def _read_plain(view: Tensor, values: Tensor) -> None:
    view.copy_(values.reshape(view.shape))


def _read_fp8_block(view: Tensor, codes: Tensor, scales: Tensor) -> None:
    n_columns = codes.shape[1]
    for i, row_scales in enumerate(scales.float()):
        strip = codes[i * BLOCK : (i + 1) * BLOCK].float()
        strip *= row_scales.repeat_interleave(BLOCK)[:n_columns]
        view[i * BLOCK : (i + 1) * BLOCK].copy_(strip)


def _read_fp8(view: Tensor, codes: Tensor, scale: Tensor) -> None:
    column = scale.float().reshape(-1, 1).expand(codes.shape[0], 1)
    for first in range(0, codes.shape[0], BLOCK):
        rows = slice(first, first + BLOCK)
        view[rows].copy_(codes[rows].float() * column[rows])


def _read_mxfp4(view: Tensor, blocks: Tensor, scales: Tensor) -> None:
    table = torch.tensor([*E2M1, *(-value for value in E2M1)])
    for expert, packed in enumerate(blocks):
        codes = torch.stack([packed & 0x0F, packed >> 4], -1).flatten(-2)
        exponents = scales[expert].view(torch.uint8).int() - _EXPONENT_BIAS
        values = torch.ldexp(table[codes.int()], exponents.unsqueeze(-1))
        view[expert].copy_(values.reshape(view[expert].shape))


_READERS: Mapping[str, Callable[..., None]] = {
    "plain": _read_plain,
    "fp8_block": _read_fp8_block,
    "fp8": _read_fp8,
    "mxfp4": _read_mxfp4,
}


def to_fp8_block(name: str, values: Tensor) -> dict[str, Tensor]:
    """The tensors that store a matrix in e4m3 with a scale for each block of 128 x 128."""
    rows, columns = values.shape
    padded = torch.nn.functional.pad(values.float(), (0, -columns % BLOCK, 0, -rows % BLOCK))
    blocks = padded.unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK))  # [rows, 128, columns, 128]
    largest = blocks.abs().amax((1, 3))
    scales = torch.where(largest > 0, largest / E4M3_LARGEST, 1.0)
    codes = (blocks / scales[:, None, :, None]).clamp(-E4M3_LARGEST, E4M3_LARGEST)
    flat = codes.flatten(0, 1).flatten(1)[:rows, :columns]
    return {name: flat.to(torch.float8_e4m3fn).contiguous(), f"{name}_scale_inv": scales}


def to_mxfp4(name: str, values: Tensor) -> dict[str, Tensor]:
    """The tensors that store values [.., k] in e2m1 with a power of two for 32 of a row; ties go to even."""
    groups = values.float().unflatten(-1, (-1, GROUP))
    largest = groups.abs().amax(-1, keepdim=True)
    exponents = torch.where(largest > 0, largest.log2().floor() - 2, 0.0).clamp(-_EXPONENT_BIAS, 127)
    scaled = torch.ldexp(groups, -exponents.int())
    codes = _nearest_e2m1(scaled.abs()) | (scaled.signbit().to(torch.uint8) << 3)
    packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
    biased = (exponents.squeeze(-1) + _EXPONENT_BIAS).to(torch.uint8)
    return {f"{name}_blocks": packed, f"{name}_scales": biased}


def _nearest_e2m1(magnitudes: Tensor) -> Tensor:
    """Codes of the nearest magnitudes; half-way between two, the even code."""
    middles = torch.tensor([(low + high) / 2 for low, high in pairwise(E2M1)])
    above = torch.bucketize(magnitudes, middles, right=True)
    below = torch.bucketize(magnitudes, middles)
    return torch.where(below % 2 == 0, below, above).to(torch.uint8)
