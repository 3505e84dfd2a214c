"""GPU-only power and energy: active watts, joules a byte, joules a FLOP; never more than the board's limit.

The constants are fitted to whole serving runs (`hardware_specs/calibrations/power.yaml`); host, fans and
conversion losses are not in them. A device that nobody measured gets shares of its board power at grade D.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict

from hardware_specs.engines import EngineSpec
from hardware_specs.parts import DeviceSpec
from hardware_specs.records.evidence import Grade
from hardware_specs.records.fields import FractionQ, JoulesPerByteQ, JoulesPerFlopQ, NumberQ, WattsQ
from hardware_specs.records.yaml_reader import validate_file


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DevicePower(_Record):
    """Constants of one device as written."""

    active: WattsQ
    per_byte: JoulesPerByteQ
    per_flop: JoulesPerFlopQ
    grade: Grade
    log_half_width: NumberQ


class UnmeasuredPower(_Record):
    """Shares of board power for a device without constants."""

    active_fraction_of_tdp: FractionQ
    per_byte: JoulesPerByteQ
    per_flop_at_tdp_fraction: FractionQ
    log_half_width: NumberQ


class PowerFile(_Record):
    """The calibration file of power."""

    schema_version: int
    devices: dict[str, DevicePower]
    unmeasured: UnmeasuredPower


@dataclass(frozen=True)
class PowerModel:
    """Power of one device under load, and how well it is known."""

    active_w: float
    joules_per_byte: float
    joules_per_flop: float
    limit_w: float
    grade: Grade
    log_half_width: float
    source: str

    def power_w(self, flop_per_s: float, bytes_per_s: float) -> float:
        """Mean watts at these rates, at most the board's limit."""
        demand = self.active_w + self.joules_per_byte * bytes_per_s + self.joules_per_flop * flop_per_s
        return min(demand, self.limit_w)

    def is_capped(self, flop_per_s: float, bytes_per_s: float) -> bool:
        """Whether the board's limit holds the power down at these rates."""
        return self.power_w(flop_per_s, bytes_per_s) >= self.limit_w

    def energy_j(self, flop: float, traffic_bytes: float, seconds: float) -> float:
        """Joules of work that takes `seconds`; 0 for no time."""
        return seconds * self.power_w(flop / seconds, traffic_bytes / seconds) if seconds > 0 else 0.0


@lru_cache(maxsize=1)
def power_file() -> PowerFile:
    """The shipped constants."""
    return validate_file(PowerFile, files("hardware_specs") / "calibrations" / "power.yaml", "power.yaml")


def power_model(device: DeviceSpec) -> PowerModel:
    """The power model of a device: its own constants, or shares of its board power.

    A device with an engine has the constants of its digital unit, at grade D, and draws the engine's static
    power beside it; what the engine does is counted apart.
    """
    if device.engine is not None:
        return _beside_engine(device, device.engine)
    file, limit_w = power_file(), device.tdp_w.value
    known = file.devices.get(device.key)
    return _fitted(known, limit_w) if known is not None else _of_board(file.unmeasured, device)


def _beside_engine(device: DeviceSpec, engine: EngineSpec) -> PowerModel:
    known, limit_w = power_file().devices.get(engine.digital_unit), device.tdp_w.value
    shares = power_file().unmeasured
    unit = _fitted(known, limit_w) if known is not None else _of_board(shares, device)
    return replace(
        unit,
        active_w=unit.active_w + engine.static_power.value,
        grade=Grade.D,
        log_half_width=max(unit.log_half_width, shares.log_half_width.value),
    )


def _fitted(known: DevicePower, limit_w: float) -> PowerModel:
    return PowerModel(
        known.active.value,
        known.per_byte.value,
        known.per_flop.value,
        limit_w,
        known.grade,
        known.log_half_width.value,
        known.active.source,
    )


def _of_board(shares: UnmeasuredPower, device: DeviceSpec) -> PowerModel:
    limit_w = device.tdp_w.value
    return PowerModel(
        active_w=shares.active_fraction_of_tdp.value * limit_w,
        joules_per_byte=shares.per_byte.value,
        joules_per_flop=shares.per_flop_at_tdp_fraction.value * limit_w / device.peak("bf16"),
        limit_w=limit_w,
        grade=Grade.D,
        log_half_width=shares.log_half_width.value,
        source=shares.active_fraction_of_tdp.source,
    )
