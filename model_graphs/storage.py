"""How weights are stored: the precisions that a deployment may ask for, and the type that each stores."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict


class Precision(StrEnum):
    """How weights are stored: as the model's checkpoints of that width do, or in a stated format."""

    BF16 = "bf16"
    FP8 = "fp8"
    FP4 = "fp4"
    FP8_TENSOR = "fp8_tensor"  # e4m3, one scale a tensor
    FP8_BLOCK = "fp8_block"  # e4m3 in 128x128 blocks
    NVFP4 = "nvfp4"  # e2m1 in blocks of 16
    MXFP4 = "mxfp4"  # e2m1 in blocks of 32
    INT8 = "int8"  # one scale a matrix, inputs quantised as they come


#: components of a graph whose products a checkpoint may store in low precision
Component = Literal[
    "attention", "indexer", "mamba", "linear_attention", "mlp", "shared_expert", "moe", "moe_latent"
]


class Storage(BaseModel):
    """The element type of stored weights, and the components whose products are stored in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["fp8", "fp8_block", "nvfp4", "mxfp4", "int8"]
    components: tuple[Component, ...] = get_args(Component)


#: what a precision stores where a model does not say otherwise
FORMATS: Mapping[Precision, Storage] = {
    Precision.FP8: Storage(dtype="fp8"),
    Precision.FP4: Storage(dtype="nvfp4"),
    Precision.FP8_TENSOR: Storage(dtype="fp8"),
    Precision.FP8_BLOCK: Storage(dtype="fp8_block"),
    Precision.NVFP4: Storage(dtype="nvfp4"),
    Precision.MXFP4: Storage(dtype="mxfp4"),
    Precision.INT8: Storage(dtype="int8"),
}

#: the precision of a type's own name, which follows that of its width
NAME_OF: Mapping[str, Precision] = {storage.dtype: precision for precision, storage in FORMATS.items()}

#: the precision that names how wide the elements of a type are, as deployments usually ask for it
WIDTH_OF: Mapping[str, Precision] = {
    "fp8": Precision.FP8,
    "fp8_block": Precision.FP8,
    "nvfp4": Precision.FP4,
    "mxfp4": Precision.FP4,
    "int8": Precision.INT8,
}
