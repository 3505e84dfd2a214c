"""Weights as they lie in memory: codes packed to bytes, pruned ones with the places of their non-zeros."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_graphs.dtypes import BLOCK_WIDTH, kept_elements
from reference_impl.formats.bits import pack_bits, unpack_bits
from reference_impl.formats.elements import CODE_BITS, Encoded, decode, encode_weight, signed, unsigned

#: types with one scale for a whole matrix
WHOLE_SCALES = ("int8", "fp8", "nvfp4")


@dataclass(frozen=True)
class Packed:
    """A weight in memory. `places` says where non-zeros are, `whole` holds one scale a matrix."""

    payload: Tensor
    scales: Tensor | None = None
    places: Tensor | None = None
    whole: Tensor | None = None

    @property
    def parts(self) -> dict[str, Tensor]:
        """The tensors that there are, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    @classmethod
    def of(cls, tensors: Sequence[Tensor], storage: str) -> "Packed":
        """The weight whose parts the tensors are, in order."""
        return cls(**dict(zip(part_names(storage), tensors, strict=True)))


def part_names(storage: str) -> tuple[str, ...]:
    """The parts of a weight that is stored so."""
    element, _, layout = storage.partition(":")
    there = {"scales": element in BLOCK_WIDTH, "places": bool(layout), "whole": element in WHOLE_SCALES}
    return ("payload", *(name for name, is_there in there.items() if is_there))


def pack(weight: Tensor, storage: str) -> Packed:
    """The weight [.., n, k] stored as `storage` says; a layout of non-zeros prunes it by magnitude."""
    element, _, layout = storage.partition(":")
    if not layout:
        encoded = encode_weight(weight, element)
        return Packed(_payload(encoded.codes, element), encoded.scales, None, encoded.whole)
    kept = _kept(weight, layout)
    encoded = encode_weight(_scattered(kept, _gathered(weight, kept, layout), weight.shape, layout), element)
    payload = _payload(_gathered(encoded.codes, kept, layout), element)
    return Packed(payload, encoded.scales, _places(kept, weight, layout), encoded.whole)


def unpack_codes(packed: Packed, storage: str, shape: tuple[int, int]) -> Encoded:
    """Codes [.., n, k] and scales of a stored weight; the code of a pruned element is that of zero."""
    element, _, layout = storage.partition(":")
    n, k = shape
    if not layout:
        return Encoded(_codes(packed.payload, element, k), packed.scales, packed.whole)
    assert packed.places is not None
    if layout == "2of4":
        kept = unpack_bits(packed.places, 2, k // 2)
        n_codes = k // 2
    else:
        n_codes = kept_elements(n, k, layout)
        kept = unpack_bits(packed.places, 1, n * k)
    codes = _codes(packed.payload, element, n_codes)
    lead = packed.places.shape[:-2] if layout == "2of4" else packed.places.shape[:-1]
    return Encoded(_restored(kept, codes, (*lead, n, k), layout), packed.scales, packed.whole)


def unpack(packed: Packed, storage: str, shape: tuple[int, int]) -> Tensor:
    """The weight [.., n, k] that the stored one stands for: fp32, or as it was where it is only pruned."""
    return decode(unpack_codes(packed, storage, shape), storage.partition(":")[0], rows_a_scale=128)


def _payload(codes: Tensor, element: str) -> Tensor:
    if element in CODE_BITS:
        return pack_bits(unsigned(codes, element), CODE_BITS[element])
    return codes.contiguous()


def _codes(payload: Tensor, element: str, n_codes: int) -> Tensor:
    if element in CODE_BITS:
        return signed(unpack_bits(payload, CODE_BITS[element], n_codes), element)
    return payload


def _kept(weight: Tensor, layout: str) -> Tensor:
    """Where the largest magnitudes are: places in every four of a row, or in the flat matrix, in order."""
    if layout == "2of4":
        return weight.abs().unflatten(-1, (-1, 4)).topk(2, -1).indices.sort(-1).values
    n_kept = kept_elements(weight.shape[-2], weight.shape[-1], layout)
    return weight.abs().flatten(-2).topk(n_kept, -1).indices.sort(-1).values


def _gathered(matrix: Tensor, kept: Tensor, layout: str) -> Tensor:
    """What lies at the kept places, [.., n, k / 2] or [.., kept]."""
    plain = matrix.view(torch.uint8) if matrix.dtype == torch.float8_e4m3fn else matrix
    if layout == "2of4":
        found = plain.unflatten(-1, (-1, 4)).gather(-1, kept).flatten(-2)
    else:
        found = plain.flatten(-2).gather(-1, kept)
    return found.view(matrix.dtype)


def _scattered(kept: Tensor, values: Tensor, shape: torch.Size | tuple[int, ...], layout: str) -> Tensor:
    """A matrix of zeros with the values at the kept places."""
    if layout == "2of4":
        empty = values.new_zeros((*shape[:-1], shape[-1] // 4, 4))
        return empty.scatter_(-1, kept, values.unflatten(-1, (-1, 2))).flatten(-2)
    empty = values.new_zeros((*shape[:-2], shape[-2] * shape[-1]))
    return empty.scatter_(-1, kept, values).unflatten(-1, (shape[-2], shape[-1]))


def _places(kept: Tensor, weight: Tensor, layout: str) -> Tensor:
    """Two bits a kept element, or a bitmap of the matrix."""
    if layout == "2of4":
        return pack_bits(kept.flatten(-2), 2)
    bitmap = torch.zeros_like(weight.flatten(-2), dtype=torch.int32)
    return pack_bits(bitmap.scatter_(-1, kept, 1), 1)


def _restored(kept: Tensor, codes: Tensor, shape: tuple[int, ...], layout: str) -> Tensor:
    """Codes at their places in a matrix of zeros; `kept` is as `_places` wrote it."""
    plain = codes.view(torch.uint8) if codes.dtype == torch.float8_e4m3fn else codes
    if layout == "2of4":
        full = _scattered(kept.unflatten(-1, (-1, 2)).long(), plain, shape, layout)
    else:
        position = (kept.cumsum(-1) - 1).clamp_min(0)
        full = torch.where(kept.bool(), plain.gather(-1, position), 0).unflatten(-1, shape[-2:])
        full = full.to(plain.dtype)
    return full.view(codes.dtype)
