"""A calibrated kernel and a calibrated device, as formulas and transfer read them."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from simulator.costs.residual import BumpsFile, Residual, ResidualScales


@dataclass(frozen=True)
class Calibrated:
    """Constants of one kernel on one device, ready for its formula."""

    family: str
    dtype: str
    kernel: str
    device: str
    constants: Any
    log_half_width: float
    source: str
    scales: ResidualScales | None = None
    bumps: BumpsFile | None = None

    @cached_property
    def residual(self) -> Residual | None:
        """What corrects the formula on the device itself, read when first asked for."""
        if self.scales is None or self.bumps is None:
            return None
        scales = (self.scales.usual_spread, self.scales.far_spread, self.scales.factor)
        return Residual(self.bumps.get(self.label), *scales)

    @property
    def label(self) -> str:
        """Family, dtype and kernel library."""
        return f"{self.family} {self.dtype} {self.kernel}"


@dataclass(frozen=True)
class DeviceCalibration:
    """All entries of one device."""

    device: str
    architecture: str
    bandwidth_per_sm: float  # bytes a second
    entries: tuple[Calibrated, ...]

    def get(self, family: str, dtype: str, kernel: str) -> Calibrated | None:
        """The entry, or None."""
        keys = (family, dtype, kernel)
        return next((e for e in self.entries if (e.family, e.dtype, e.kernel) == keys), None)

    def under(self, other: "DeviceCalibration") -> "DeviceCalibration":
        """These entries and the other's, which win where both have one."""
        named = {(e.family, e.dtype, e.kernel): e for e in (*self.entries, *other.entries)}
        return replace(self, entries=tuple(named.values()))
