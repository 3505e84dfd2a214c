"""Element types of graphs and what a tensor of them occupies, block scales included.

| name | element | scales |
|---|---|---|
| bf16, fp16, fp32, fp64, int64 | 2, 2, 4, 8, 8 bytes | none |
| fp8 | 1 byte (e4m3) | one a tensor, not counted |
| fp8_block | 1 byte (e4m3) | fp32 for 128x128 blocks of a weight, for 128 elements of an activation's row |
| nvfp4 | 4 bits (e2m1) | fp8 for 16 elements of a row; the one of the tensor is not counted |
| mxfp8 | 1 byte (e4m3) | a power of two in 8 bits for 32 elements of a row |
| mxfp4 | 4 bits (e2m1) | a power of two in 8 bits for 32 elements of a row |

References: OCP Microscaling Formats (MX) Specification 1.0, section 5.
"""

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.expressions import ZERO, Expression, ceil_div, product
from model_graphs.graph import Role, Tensor

#: what matrix units multiply in, after the passes
COMPUTE_DTYPES = ("bf16", "fp8", "fp8_block", "nvfp4", "mxfp4")
#: what rows are quantised to where it is not what the weights beside them are stored in
ROW_DTYPES = {"mxfp4": "mxfp8"}

_ELEMENT_BITS = {
    "bf16": 16,
    "fp16": 16,
    "fp32": 32,
    "fp64": 64,
    "int64": 64,
    "fp8": 8,
    "fp8_block": 8,
    "nvfp4": 4,
    "mxfp8": 8,
    "mxfp4": 4,
}
#: elements of a row that share a scale
BLOCK_WIDTH = {"fp8_block": 128, "nvfp4": 16, "mxfp8": 32, "mxfp4": 32}
_SCALE_BYTES = {"fp8_block": 4, "nvfp4": 1, "mxfp8": 1, "mxfp4": 1}


def tensor_bytes(tensor: Tensor) -> Expression:
    """Bytes that the tensor occupies, with its scales.

    Raises:
        InputError: the element type is unknown.
    """
    if tensor.dtype not in _ELEMENT_BITS:
        suggestion = nearest(tensor.dtype, _ELEMENT_BITS)
        requirement = f"element type must be one of {', '.join(_ELEMENT_BITS)}"
        raise InputError(Problem(requirement, repr(tensor.dtype), suggestion=suggestion))
    bits = product((*tensor.shape, _ELEMENT_BITS[tensor.dtype]))
    return ceil_div(bits, 8) + _scale_bytes(tensor)


def _scale_bytes(tensor: Tensor) -> Expression:
    *outer, rows, columns = (1, *tensor.shape)
    width = BLOCK_WIDTH.get(tensor.dtype)
    if width is None:
        return ZERO
    if tensor.dtype == "fp8_block" and tensor.role is Role.WEIGHT:
        rows = ceil_div(rows, width)
    return product((*outer, rows, ceil_div(columns, width), _SCALE_BYTES[tensor.dtype]))
