"""The datasheet figures that kernel models read, taken once from a `SystemSpec` as plain floats."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hardware_specs.parts import PEAK_OF_DTYPE, SystemSpec
from hardware_specs.records.errors import InputError, Problem, nearest

#: bytes of one stored element, with its share of the block scales
ELEMENT_BYTES = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1.0,
    "mxfp8": 1.0 + 1 / 32,
    "int8": 1.0,
    "nvfp4": 0.5 + 1 / 16,
    "mxfp4": 0.5 + 1 / 32,
    "int4": 0.5 + 2 / 128,
}

#: products of two types: what weights are stored in, and what rows are read and multiplied in
MIXED_PRODUCTS = {
    "mxfp4_bf16": ("mxfp4", "bf16"),
    "mxfp4_mxfp8": ("mxfp4", "mxfp8"),
    "int8_bf16": ("int8", "bf16"),
    "int4_bf16": ("int4", "bf16"),
}

_ALIASES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "fp4": "nvfp4"}


def dtype_name(dtype: str) -> str:
    """The canonical name of a dtype; hub and table spellings are accepted.

    Raises:
        InputError: the dtype is unknown.
    """
    name = _ALIASES.get(dtype, dtype)
    if name not in ELEMENT_BYTES:
        known = ", ".join(sorted(ELEMENT_BYTES))
        raise InputError(
            Problem(f"dtype must be one of {known}", dtype, suggestion=nearest(dtype, ELEMENT_BYTES))
        )
    return name


def element_bytes(dtype: str) -> float:
    """Bytes of one stored element of a dtype."""
    return ELEMENT_BYTES[dtype_name(dtype)]


def product_types(dtype: str) -> tuple[str, str]:
    """What the weights of a product are stored in, and what its rows are read and multiplied in."""
    return MIXED_PRODUCTS.get(dtype) or (dtype_name(dtype),) * 2


@dataclass(frozen=True)
class DeviceFigures:
    """One device and its links in SI floats. Peaks are dense; link bandwidths per device and direction."""

    key: str
    architecture: str
    n_sm: float
    clock_hz: float
    l2_bytes: float
    bandwidth_bytes_per_s: float
    peaks: Mapping[str, float] = field(hash=False)
    scale_up_bytes_per_s: float = 0.0
    scale_out_bytes_per_s: float = 0.0
    scale_up_devices: int = 1

    @classmethod
    def from_system(cls, system: SystemSpec) -> "DeviceFigures":
        """The figures of a deployment's device in its node."""
        device, node = system.device, system.node
        return cls(
            key=device.key,
            architecture=device.architecture.lower(),
            n_sm=float(device.n_sm),
            clock_hz=float(device.clock_hz),
            l2_bytes=float(device.l2_bytes),
            bandwidth_bytes_per_s=float(device.memory.bandwidth_bytes_per_s),
            peaks={name: float(peak) for name, peak in device.peak_flop_per_s.items()},
            scale_up_bytes_per_s=float(node.scale_up.bandwidth_bytes_per_s),
            scale_out_bytes_per_s=float(node.nic.bandwidth_bytes_per_s) * float(node.nics_per_device),
            scale_up_devices=system.scale_up_devices,
        )

    def has_peak(self, dtype: str) -> bool:
        """Whether the device has a matrix unit for the dtype."""
        return PEAK_OF_DTYPE.get(dtype_name(dtype)) in self.peaks

    def peak_or_bf16(self, dtype: str) -> float:
        """Dense peak in FLOP/s, that of 16 bits where a kernel has to expand the dtype first."""
        return self.peak(dtype if self.has_peak(dtype) else "bf16")

    def peak(self, dtype: str) -> float:
        """Dense peak in FLOP/s.

        Raises:
            InputError: the device has no matrix unit for the dtype.
        """
        name = dtype_name(dtype)
        entry = PEAK_OF_DTYPE.get(name, name)
        if not self.has_peak(name):
            known = ", ".join(sorted(self.peaks))
            raise InputError(
                Problem(
                    f"compute dtype must have a matrix unit ({known})",
                    dtype,
                    path=f"{self.key}.peak_flop_per_s",
                    suggestion=nearest(entry, self.peaks),
                )
            )
        return self.peaks[entry]
