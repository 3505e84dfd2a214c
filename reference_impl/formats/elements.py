"""Element types of few bits: scales and codes of a tensor, and back.

An encoder takes [.., n, k] and returns codes of that shape, the scales of blocks, and what holds for a whole
matrix. Codes are rounded to the nearest, ties to even, and clamped to the type's range rather than left to a
cast, whose saturation differs between versions of PyTorch.

References: DeepSeek-V3 report (arXiv 2412.19437) section 3.3.2 (fp8_block); OCP Microscaling specification
(e2m1, mxfp4, mxfp8); `torch.ao.quantization` (int8: weights symmetric, inputs affine in seven bits, as on
x86).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor

E4M3_LARGEST = 448.0
E2M1_LARGEST = 6.0
SMALLEST_SCALE = 1e-12
#: below it PyTorch amplifies the range of an input
SMALLEST_INPUT_SCALE = float(torch.tensor(6.1e-5))
#: magnitudes of e2m1 by code
E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1_TYPES = ("nvfp4", "mxfp4")
#: bits of a code where it is not a byte
CODE_BITS = {"nvfp4": 4, "mxfp4": 4, "int6_g128": 6, "int4_g128": 4, "int3_g128": 3, "int2_g128": 2}


@dataclass(frozen=True)
class Encoded:
    """Codes of a tensor with the scales of its blocks and, for some types, of each whole matrix."""

    codes: Tensor
    scales: Tensor | None = None
    whole: Tensor | None = None


def encode_weight(weight: Tensor, element: str) -> Encoded:
    """Codes and scales of a weight [.., n, k]."""
    match element:
        case "bf16":
            return Encoded(weight)
        case "fp8_block":
            return _encode_fp8(weight.float(), 128)
        case "fp8":
            return _encode_fp8_tensor(weight.float())
        case "nvfp4":
            return _encode_nvfp4(weight.float())
        case "mxfp4":
            return _encode_mxfp4(weight.float())
        case "int8":
            return _encode_symmetric_int8(weight.float())
    return _encode_groups(weight.float(), _bits(element))


def encode_input(x: Tensor, element: str) -> Encoded:
    """Codes and scales of an input [.., k]."""
    match element:
        case "fp8_block":
            return _encode_fp8(x.float().unsqueeze(-2), 1)
        case "fp8":
            return _encode_fp8_tensor(x.float().reshape(1, -1, x.shape[-1]))
        case "nvfp4":
            return _encode_nvfp4(x.float().reshape(1, -1, x.shape[-1]))
        case "mxfp8":
            return _encode_mxfp8(x.float())
    return _encode_affine_int8(x.float())


def decode(encoded: Encoded, element: str, rows_a_scale: int = 1) -> Tensor:
    """The values in fp32, for `bf16` as they were; a scale of an fp8_block weight is for 128 rows."""
    codes, scales = encoded.codes, encoded.scales
    if element == "bf16":
        return codes
    if encoded.whole is not None:
        whole = encoded.whole.float().unsqueeze(-2).unsqueeze(-2)
        if element == "int8":
            scale, zero = whole.unbind(-1)
            return (codes.float() - zero) * scale
        if element == "fp8":
            return codes.float() * whole.squeeze(-1)
        assert scales is not None
        return _e2m1_values(codes) * _spread(scales.float() * whole.squeeze(-1), 1, 16, codes)
    assert scales is not None
    if element in ("mxfp4", "mxfp8"):
        values = _e2m1_values(codes) if element == "mxfp4" else codes.float()
        return values * _spread(torch.exp2(scales.float() - 127), 1, 32, codes)
    rows = rows_a_scale if element == "fp8_block" else 1
    return codes.float() * _spread(scales.float(), rows, 128, codes)


def signed(codes: Tensor, element: str) -> Tensor:
    """Codes of a whole-number type as stored without sign, made signed again."""
    return codes if element in E2M1_TYPES else codes - 2 ** (CODE_BITS[element] - 1)


def unsigned(codes: Tensor, element: str) -> Tensor:
    """Codes of a whole-number type moved to 0 and above."""
    return codes if element in E2M1_TYPES else codes.int() + 2 ** (CODE_BITS[element] - 1)


def _bits(element: str) -> int:
    return CODE_BITS.get(element, 8)


def _blocks(x: Tensor, rows: int, columns: int) -> Tensor:
    """[.., n, k] as [.., n / rows, rows, k / columns, columns], filled up with zeros."""
    n, k = x.shape[-2:]
    padded = F.pad(x, (0, -k % columns, 0, -n % rows))
    return padded.unflatten(-1, (-1, columns)).unflatten(-3, (-1, rows))


def _spread(scales: Tensor, rows: int, columns: int, like: Tensor) -> Tensor:
    """Scales of blocks, one for every element of `like`."""
    n, k = like.shape[-2:]
    return scales.repeat_interleave(rows, -2).repeat_interleave(columns, -1)[..., :n, :k]


def _encode_fp8(x: Tensor, rows: int) -> Encoded:
    largest = _blocks(x.abs(), rows, 128).amax((-3, -1))
    scales = largest.clamp_min(SMALLEST_SCALE) / E4M3_LARGEST
    scaled = x / _spread(scales, rows, 128, x)
    return Encoded(scaled.clamp(-E4M3_LARGEST, E4M3_LARGEST).to(torch.float8_e4m3fn), scales)


def _encode_fp8_tensor(x: Tensor) -> Encoded:
    scale = x.abs().amax((-2, -1)).clamp_min(SMALLEST_SCALE).unsqueeze(-1) / E4M3_LARGEST
    scaled = x / scale.unsqueeze(-1)
    return Encoded(scaled.clamp(-E4M3_LARGEST, E4M3_LARGEST).to(torch.float8_e4m3fn), whole=scale)


def _encode_mxfp4(x: Tensor) -> Encoded:
    exponent = _shared_exponent(x, 2)
    codes = _e2m1_codes(x / _spread(torch.exp2(exponent), 1, 32, x))
    return Encoded(codes, (exponent + 127).to(torch.uint8))


def _encode_mxfp8(x: Tensor) -> Encoded:
    rows = x.reshape(-1, x.shape[-1])
    exponent = _shared_exponent(rows, 8)
    scaled = rows / _spread(torch.exp2(exponent), 1, 32, rows)
    codes = scaled.clamp(-E4M3_LARGEST, E4M3_LARGEST).to(torch.float8_e4m3fn)
    return Encoded(codes, (exponent + 127).to(torch.uint8))


def _shared_exponent(x: Tensor, of_largest_code: int) -> Tensor:
    """The power of two of 32 elements: that of the largest, less that of the type's largest code."""
    largest = _blocks(x.abs(), 1, 32).amax((-3, -1)).clamp_min(SMALLEST_SCALE)
    return torch.floor(torch.log2(largest)).clamp(-119, 127) - of_largest_code


def _encode_nvfp4(x: Tensor) -> Encoded:
    """A scale in e4m3 for 16 elements, and one of the matrix under which the largest of those fits."""
    whole = x.abs().amax((-2, -1)).clamp_min(SMALLEST_SCALE).unsqueeze(-1) / (E4M3_LARGEST * E2M1_LARGEST)
    largest = _blocks(x.abs(), 1, 16).amax((-3, -1))
    ideal = largest / (E2M1_LARGEST * whole.unsqueeze(-1))
    scales = ideal.clamp(2.0**-9, E4M3_LARGEST).to(torch.float8_e4m3fn)
    spread = _spread(scales.float() * whole.unsqueeze(-1), 1, 16, x)
    return Encoded(_e2m1_codes(x / spread), scales, whole)


def _e2m1_codes(x: Tensor) -> Tensor:
    """Three bits of magnitude and the sign above them; a value halfway goes to the even code."""
    values = torch.tensor(E2M1_VALUES, device=x.device)
    halfway = (values[1:] + values[:-1]) / 2
    low = torch.bucketize(x.abs(), halfway)
    high = torch.bucketize(x.abs(), halfway, right=True)
    return torch.where(low % 2 == 0, low, high) + 8 * (x < 0)


def _e2m1_values(codes: Tensor) -> Tensor:
    values = torch.tensor(E2M1_VALUES, device=codes.device)
    return values[codes.long() % 8] * (1 - 2 * (codes >= 8).float())


def _encode_symmetric_int8(weight: Tensor) -> Encoded:
    """One scale a matrix, so that the largest magnitude is 127.5."""
    largest = weight.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float32).eps * 127.5)
    scale = largest / 127.5
    codes = (weight * (1 / scale)).round().clamp(-128, 127).to(torch.int8)
    whole = torch.cat([scale.flatten(-2), torch.zeros_like(scale.flatten(-2))], -1)
    return Encoded(codes, whole=whole)


def _encode_affine_int8(x: Tensor) -> Encoded:
    """A scale and a zero point a tensor, codes to 127; scales below 6.1e-5 are raised to it."""
    low, high = x.amin().clamp_max(0).double(), x.amax().clamp_min(0).double()
    scale = (high - low) / 127.0
    scale = torch.where(scale.float() == 0, 0.1, scale)
    raised = scale.clamp_min(SMALLEST_INPUT_SCALE)
    zero = _zero_point(low * (raised / scale), high * (raised / scale), raised)
    inverse = 1.0 / raised.float()
    codes = ((x * inverse).round() + zero.float()).clamp(0, 127).to(torch.uint8)
    return Encoded(codes, whole=torch.stack([raised.float(), zero.float()]))


def _zero_point(low: Tensor, high: Tensor, scale: Tensor) -> Tensor:
    """The code of zero, taken from the end of the range that rounds it less."""
    from_low, from_high = -low / scale, 127.0 - high / scale
    error_low = (low / scale).abs()
    error_high = 127.0 + (high / scale).abs()
    return torch.where(error_low < error_high, from_low, from_high).round().clamp(0, 127)


def _encode_groups(weight: Tensor, n_bits: int) -> Encoded:
    """Symmetric codes with a bf16 scale for 128 elements of a row."""
    largest_code = 2 ** (n_bits - 1) - 1
    largest = _blocks(weight.abs(), 1, 128).amax((-3, -1)).clamp_min(SMALLEST_SCALE)
    scales = (largest / largest_code).to(torch.bfloat16)
    spread = _spread(scales.float(), 1, 128, weight)
    codes = (weight / spread).round().clamp(-largest_code, largest_code).to(torch.int8)
    return Encoded(codes, scales)
