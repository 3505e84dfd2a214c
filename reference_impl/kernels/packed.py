"""Kernels of products in few bits: quantised inputs, packed weights, and what their sums are added in.

A packed weight is one to four tensors (see `reference_impl.formats`), a quantised input three: codes, scales
of blocks, scale of the whole. The graph shows each as one operand of its element type, whose bytes are those
of the tensors; a scale of a whole matrix is not counted. Weights are spread out to their values at each call,
as kernels do in registers; products of 8-bit integers are summed exactly.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor

from model_graphs.dtypes import BLOCK_WIDTH
from model_graphs.graph import Role
from model_graphs.transform_pass import WHOLE_TENSOR_SCALES, storage_attrs
from reference_impl.formats import Encoded, Packed, decode, encode_input, part_names, unpack, unpack_codes
from reference_impl.formats.bits import pack_bits, unpack_bits
from reference_impl.formats.elements import CODE_BITS, E2M1_TYPES, signed
from reference_impl.kernels.accumulation import blocked_product
from reference_impl.kernels.registry import Call, Dim, Operand, Scalar, kernel, product


def _quantize_fake(x: Tensor, dtype: str) -> tuple[Tensor, Tensor, Tensor]:
    *lead, k = x.shape
    if dtype == "fp8_block":
        codes = x.new_empty(x.shape, dtype=torch.float8_e4m3fn)
        return codes, x.new_empty((*lead, -(-k // 128)), dtype=torch.float32), _fp32(x, 0)
    if dtype == "fp8":
        return x.new_empty(x.shape, dtype=torch.float8_e4m3fn), _fp32(x, 0), _fp32(x, 1)
    if dtype == "mxfp8":
        codes = x.new_empty(x.shape, dtype=torch.float8_e4m3fn)
        return codes, x.new_empty((*lead, -(-k // 32)), dtype=torch.uint8), _fp32(x, 0)
    if dtype in E2M1_TYPES:
        codes = x.new_empty((*lead, -(-k // 2)), dtype=torch.uint8)
        kind, n_whole = (torch.float8_e4m3fn, 1) if dtype == "nvfp4" else (torch.uint8, 0)
        return codes, x.new_empty((*lead, -(-k // BLOCK_WIDTH[dtype])), dtype=kind), _fp32(x, n_whole)
    return x.new_empty(x.shape, dtype=torch.uint8), _fp32(x, 0), _fp32(x, 2)


def _fp32(like: Tensor, size: int) -> Tensor:
    return like.new_empty((size,), dtype=torch.float32)


def _quantize_view(call: Call) -> Call:
    x, (codes, scales, _) = call["x"], call.outputs
    n_bytes = codes.n_bytes + scales.n_bytes
    shown = Operand(x.shape, str(call.scalars["dtype"]), codes.element_bytes, Role.ACTIVATION, n_bytes)
    return Call(call.inputs, (shown,), call.scalars)


def _quantize_reads(call: Call) -> Dim:
    return call["x"].n_bytes * (2 if call.scalars["dtype"] in WHOLE_TENSOR_SCALES else 1)


@kernel(
    "quantize",
    fake=_quantize_fake,
    outputs=(Role.ACTIVATION,) * 3,
    rules={"activation_read_bytes": _quantize_reads},
    view=_quantize_view,
)
def quantize(x: Tensor, dtype: str) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of the input [.., k], scales of its blocks, and scale (and zero point) of the whole tensor."""
    return quantised(x, dtype)


def quantised(x: Tensor, dtype: str) -> tuple[Tensor, Tensor, Tensor]:
    """What the kernel `quantize` returns, inside other kernels."""
    encoded = encode_input(x, dtype)
    codes = encoded.codes.reshape(x.shape)
    if dtype in CODE_BITS:
        codes = pack_bits(codes, CODE_BITS[dtype])
    scales = _fp32(x, 0) if encoded.scales is None else encoded.scales.reshape(*x.shape[:-1], -1)
    whole = _fp32(x, 0) if encoded.whole is None else encoded.whole.flatten()
    return codes, scales, whole


def input_values(x: Sequence[Tensor], dtype: str, k: int) -> Tensor:
    """The values [.., k] of an input, in fp32 where it is quantised and as they are where it is not."""
    if dtype == "bf16":
        return x[0]
    codes, scales, whole = x
    shape = (*codes.shape[:-1], k)
    if dtype in CODE_BITS:
        codes = signed(unpack_bits(codes, CODE_BITS[dtype], k), dtype)
    rows = codes.reshape(1, -1, k)
    grouped = scales.reshape(1, rows.shape[1], -1) if scales.numel() else None
    one = whole.unsqueeze(0) if whole.numel() else None
    return decode(Encoded(rows, grouped, one), dtype).reshape(shape)


def stored(call: Call, argument: str, shape: tuple[Dim, ...], dtype: str) -> Operand:
    """One operand that the tensors of a list argument are together, but for a scale of the whole."""
    first = call[f"{argument}.0"]
    names = part_names(dtype) if first.role is Role.WEIGHT else ("payload", "scales", "whole")
    parts = [call.inputs.get(f"{argument}.{i}") for i, name in enumerate(names) if name != "whole"]
    n_bytes = sum((part.n_bytes for part in parts if part is not None), 0)
    element, colon, layout = dtype.partition(":")
    shown = f"{first.dtype if element == 'bf16' else element}{colon}{layout}"
    return Operand(shape, shown, first.element_bytes, first.role, n_bytes)


def flop_a_weight(call: Call) -> int:
    """Two for a multiplication and an addition; one on average where a unit skips two of every four."""
    return 1 if str(call.scalars["storage"]).endswith(":2of4") else 2


def rule_attrs(call: Call) -> dict[str, Scalar]:
    """What the graph says of a packed product beyond its element types."""
    return {**storage_attrs(str(call.scalars["storage"]), str(call.scalars["accumulation"]))}


def computed_in(call: Call) -> str:
    """What the product is computed in: the unit that its weights name, where its input is quantised."""
    element = str(call.scalars["storage"]).partition(":")[0]
    return "bf16" if call.scalars["inputs"] == "bf16" else element


def _linear_fake(
    x: Sequence[Tensor],
    weight: Sequence[Tensor],
    storage: str,
    inputs: str,
    n: int,
    k: int,
    accumulation: str,
    out: torch.dtype,
    bias_N: Tensor | None = None,
) -> Tensor:
    return x[0].new_empty((*x[0].shape[:-1], n), dtype=out)


def _linear_view(call: Call) -> Call:
    n, k = int(call.scalars["n"]), int(call.scalars["k"])
    x = stored(call, "x", (*call["x.0"].shape[:-1], k), str(call.scalars["inputs"]))
    weight = stored(call, "weight", (n, k), str(call.scalars["storage"]))
    bias = {"bias_N": call["bias_N"]} if "bias_N" in call.inputs else {}
    return Call({"x": x, "weight_NK": weight, **bias}, call.outputs, call.scalars)


@kernel(
    "linear",
    name="packed_linear",
    fake=_linear_fake,
    inputs={"weight": Role.WEIGHT, "bias_N": Role.WEIGHT},
    flop=lambda call: product(flop_a_weight(call), call["x"].n_elements, int(call.scalars["n"])),
    attrs=lambda call: {"n": call.scalars["n"], "k": call.scalars["k"], **rule_attrs(call)},
    view=_linear_view,
    compute=computed_in,
)
def packed_linear(
    x: Sequence[Tensor],
    weight: Sequence[Tensor],
    storage: str,
    inputs: str,
    n: int,
    k: int,
    accumulation: str,
    out: torch.dtype,
    bias_N: Tensor | None = None,
) -> Tensor:
    """Product [.., n] of an input [.., k], quantised unless `inputs` is bf16, and a packed weight [n, k]."""
    y = packed_product(x, Packed.of(weight, storage), storage, inputs, (n, k), accumulation)
    return (y if bias_N is None else y + bias_N).to(out)


def packed_product(
    x: Sequence[Tensor], weight: Packed, storage: str, inputs: str, shape: tuple[int, int], accumulation: str
) -> Tensor:
    """The product in fp32, or in the input's own type where neither it nor its sums are changed."""
    if inputs == "int8":
        return _integer_product(x, unpack_codes(weight, storage, shape))
    values = input_values(x, inputs, shape[1])
    return blocked_product(values, unpack(weight, storage, shape).to(values.dtype), accumulation)


def _integer_product(x: Sequence[Tensor], weight_NK: Encoded) -> Tensor:
    """Exact sums of 8-bit products (fp64 holds them), then one multiplication by both scales in fp32."""
    codes, _, whole = x
    assert weight_NK.whole is not None
    sums = F.linear(codes.double() - whole[1].double(), weight_NK.codes.double())
    return sums.float() * (whole[0] * weight_NK.whole[..., 0])
