"""Element types of graphs and what a tensor of them occupies, block scales included.

| name | element | scales |
|---|---|---|
| bf16, fp16, fp32, fp64, int32, int64 | 2, 2, 4, 8, 4, 8 bytes | none |
| fp8 | 1 byte (e4m3) | one a tensor, not counted |
| fp8_block | 1 byte (e4m3) | fp32 for 128x128 blocks of a weight, for 128 elements of an activation's row |
| nvfp4 | 4 bits (e2m1) | fp8 for 16 elements of a row; the one of the tensor is not counted |
| mxfp8 | 1 byte (e4m3) | a power of two in 8 bits for 32 elements of a row |
| mxfp4 | 4 bits (e2m1) | a power of two in 8 bits for 32 elements of a row |
| int8 | 1 byte | one a matrix, not counted |
| int8_g128, int6_g128, int4_g128, int3_g128, int2_g128 | 8, 6, 4, 3, 2 bits | bf16 for 128 of a row |

A pruned weight names the layout of what is left after a colon: `bf16:2of4` keeps two of every four elements
of a row with two bits each that say which; `bf16:0.7` keeps the non-zero 30% of a matrix and a bitmap of it.

References: OCP Microscaling Formats (MX) Specification 1.0, section 5.
"""

from fractions import Fraction
from math import ceil, floor, prod

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.expressions import ZERO, Expression, ceil_div, constant, product
from model_graphs.graph import Role, Tensor

#: what matrix units multiply in, after the passes
COMPUTE_DTYPES = ("bf16", "fp8", "fp8_block", "nvfp4", "mxfp4", "int8")
#: what rows are quantised to where it is not what the weights beside them are stored in
ROW_DTYPES = {"mxfp4": "mxfp8"}


_GROUPED = {f"int{bits}_g128": bits for bits in (8, 6, 4, 3, 2)}
_ELEMENT_BITS = {
    "bf16": 16,
    "fp16": 16,
    "fp32": 32,
    "fp64": 64,
    "int32": 32,
    "int64": 64,
    "fp8": 8,
    "fp8_block": 8,
    "nvfp4": 4,
    "mxfp8": 8,
    "mxfp4": 4,
    "int8": 8,
    **_GROUPED,
}
#: what a weight may be stored in
WEIGHT_DTYPES = ("bf16", "fp8", "fp8_block", "nvfp4", "mxfp4", "int8", *_GROUPED)
#: what an input may be quantised to
INPUT_DTYPES = ("bf16", "fp8", "fp8_block", "nvfp4", "mxfp8", "int8")
#: elements of a row that share a scale
BLOCK_WIDTH = {"fp8_block": 128, "nvfp4": 16, "mxfp8": 32, "mxfp4": 32, **dict.fromkeys(_GROUPED, 128)}
_SCALE_BYTES = {"fp8_block": 4, "nvfp4": 1, "mxfp8": 1, "mxfp4": 1, **dict.fromkeys(_GROUPED, 2)}


def tensor_bytes(tensor: Tensor) -> Expression:
    """Bytes that the tensor occupies, with its scales and the layout of its non-zeros.

    Raises:
        InputError: the element type is unknown.
    """
    element, _, layout = tensor.dtype.partition(":")
    if element not in _ELEMENT_BITS:
        suggestion = nearest(element, _ELEMENT_BITS)
        requirement = f"element type must be one of {', '.join(_ELEMENT_BITS)}"
        raise InputError(Problem(requirement, repr(tensor.dtype), suggestion=suggestion))
    if layout:
        return _pruned_bytes(tensor, _ELEMENT_BITS[element], layout) + _scale_bytes(tensor, element)
    bits = product((*tensor.shape, _ELEMENT_BITS[element]))
    return ceil_div(bits, 8) + _scale_bytes(tensor, element)


def kept_elements(rows: int, columns: int, layout: str) -> int:
    """Elements of a matrix that a layout of non-zeros keeps."""
    if layout == "2of4":
        return rows * (columns // 2)
    return rows * columns - floor(Fraction(layout) * rows * columns)


def _pruned_bytes(tensor: Tensor, element_bits: int, layout: str) -> Expression:
    """Non-zeros and what says where they are, of a weight whose sizes are known."""
    *outer, rows, columns = (int(size) for size in tensor.shape)
    if layout == "2of4":
        kept = columns // 2
        return constant(prod(outer) * rows * (ceil(kept * element_bits / 8) + ceil(kept * 2 / 8)))
    kept = kept_elements(rows, columns, layout)
    return constant(prod(outer) * (ceil(kept * element_bits / 8) + ceil(rows * columns / 8)))


def _scale_bytes(tensor: Tensor, element: str) -> Expression:
    *outer, rows, columns = (1, *tensor.shape)
    width = BLOCK_WIDTH.get(element)
    if width is None:
        return ZERO
    if element == "fp8_block" and tensor.role is Role.WEIGHT:
        rows = ceil_div(rows, width)
    return product((*outer, rows, ceil_div(columns, width), _SCALE_BYTES[element]))
