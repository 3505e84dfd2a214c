import pytest

from hardware_specs.records.errors import InputError
from model_graphs.dtypes import tensor_bytes
from model_graphs.expressions import Expression
from model_graphs.graph import Role, Tensor


def bytes_of(dtype: str, role: Role, *shape: str | int) -> str:
    dims = tuple(Expression.parse(str(size)) for size in shape)
    return str(tensor_bytes(Tensor(dims, dtype, role)))


@pytest.mark.parametrize(
    ("dtype", "role", "shape", "expected"),
    [
        ("bf16", Role.ACTIVATION, ("B", "S", 7168), "14336*B*S"),
        ("fp32", Role.WEIGHT, (256,), "1024"),
        ("int64", Role.INDEX, ("B", 8), "64*B"),
        # 24576 x 1536 elements and 192 x 12 blocks of 4 bytes
        ("fp8_block", Role.WEIGHT, (24576, 1536), str(24576 * 1536 + 192 * 12 * 4)),
        # 2112 rows need 17 blocks, the last one half empty
        ("fp8_block", Role.WEIGHT, (2112, 7168), str(2112 * 7168 + 17 * 56 * 4)),
        # experts are stacked: blocks do not cross them
        ("fp8_block", Role.WEIGHT, (256, 7168, 2048), str(256 * (7168 * 2048 + 56 * 16 * 4))),
        # an activation has a scale for each 128 elements of a row: 7168 + 56 * 4
        ("fp8_block", Role.ACTIVATION, ("B", "S", 7168), "7392*B*S"),
        # half a byte, and one byte for 16 elements: 0.5625 bytes an element
        ("nvfp4", Role.WEIGHT, (7168, 2048), str(7168 * 2048 * 9 // 16)),
        ("nvfp4", Role.ACTIVATION, ("B", 7168), "4032*B"),
        # half a byte, and one byte for 32 elements: 17/32 bytes an element; 2880 columns are 90 blocks
        ("mxfp4", Role.WEIGHT, (128, 5760, 2880), str(128 * 5760 * (1440 + 90))),
        # a row of 40 elements has two scales, the second for 8 of them
        ("mxfp4", Role.WEIGHT, (1, 40), "22"),
        ("mxfp8", Role.ACTIVATION, ("B", 2880), "2970*B"),
        ("fp8", Role.CACHE, ("B", "T", 576), "576*B*T"),
    ],
)
def test_a_tensor_occupies_its_elements_and_scales(
    dtype: str, role: Role, shape: tuple[str | int, ...], expected: str
) -> None:
    assert bytes_of(dtype, role, *shape) == expected


def test_an_unknown_element_type_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean fp8"):
        bytes_of("fp9", Role.WEIGHT, 4)
