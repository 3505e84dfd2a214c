"""Fitted constants as they are shipped: a YAML file a device, an entry a family, dtype and kernel library.

An entry says its source and kind once for all of its constants, the number of points and sites behind it,
the errors found and the half-width of its 90% interval. An entry may name a residual, whose arrays lie in
`residuals_DEVICE.npz`; constants that are carried to another device go without it. `find` picks the entry for
a call, or the nearest one with a weaker grade and a wider interval; it never invents constants.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, reduce
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.evidence import Grade
from hardware_specs.records.quantities import Kind, parse_quantity, unit_factor
from hardware_specs.records.yaml_reader import validate_file
from simulator.costs.bandwidth import BandwidthConstants
from simulator.costs.calibrated import Calibrated, DeviceCalibration
from simulator.costs.collectives import (
    BulkExchangeConstants,
    CustomAllReduceConstants,
    ExchangeConstants,
    NcclConstants,
)
from simulator.costs.decode import DecodeConstants
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmConstants
from simulator.costs.generations import GENERATIONS
from simulator.costs.marching import MARCHING, MarchConstants
from simulator.costs.moe import MoeConstants
from simulator.costs.numerics import constant_specs
from simulator.costs.prefill import PrefillConstants
from simulator.costs.residual import BumpsFile, Residual, ResidualScales
from simulator.costs.transfer import Carried, carried
from simulator.costs.vector_cores import on_vector_cores

SCHEMA_VERSION = 1

CONSTANTS_OF_FAMILY: dict[str, type[Any]] = {
    "gemm": GemmConstants,
    "batched_gemm": GemmConstants,
    "mla_prefill": PrefillConstants,
    "mla_decode": DecodeConstants,
    "attention_prefill": PrefillConstants,
    "attention_decode": DecodeConstants,
    "moe": MoeConstants,
    "custom_all_reduce": CustomAllReduceConstants,
    "nccl": NcclConstants,
    "ep_low_latency": ExchangeConstants,
    "ep_bulk": BulkExchangeConstants,
    "ep_nvlink": ExchangeConstants,
    "oneccl": NcclConstants,
    "bandwidth": BandwidthConstants,
    "encoder_attention": PrefillConstants,
    **dict.fromkeys(MARCHING, MarchConstants),
}


#: device, family, dtype and kernels of a question to other devices
_Asked = tuple[DeviceFigures, str, str, tuple[str, ...]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EntryFile(_Strict):
    """One entry as written: constants are numbers, or text with a unit.

    Errors are those of the formula with its residual, `log_half_width` is that of the formula alone.
    """

    family: str
    dtype: str
    kernel: str
    source: str
    kind: Kind
    n_points: int
    n_sites: int
    fit_mape: float | None = None
    test_mape: float | None = None
    test_sites: int | None = None
    cross_validated_mape: float | None = None
    cross_validated_by: Literal["site", "point"] | None = None
    transferred_mape: float | None = None  # of the constants that other devices would have lent
    log_half_width: float
    constants: dict[str, str | float]
    residual: ResidualScales | None = None


class Provenance(_Strict):
    """What a user's calibration was fitted on: the file's name and hash, and when it was measured."""

    made_by: str
    measured: str
    content_hash: str
    measured_on: str = ""  # YYYY-MM-DD, or empty where it was not said
    caches: Literal["cold", "warm"]


class CalibrationFile(_Strict):
    """The calibration of one device; `figures` are the datasheet figures that the fit used."""

    schema_version: int
    device: str
    architecture: str
    figures: dict[str, str | float]
    provenance: Provenance | None = None
    residuals_sha256: str | None = None
    entries: list[EntryFile]


class TransferWidths(_Strict):
    """Half-widths in log space of constants carried to another device of the architecture, or across."""

    within_architecture: float
    across_architectures: float


class TransferFile(_Strict):
    """How far off transferred constants are, by family."""

    schema_version: int
    source: str
    kind: Kind
    families: dict[str, TransferWidths]


@dataclass(frozen=True)
class Choice:
    """Constants chosen for a call, with what choosing them costs in certainty."""

    calibrated: Calibrated
    grade: Grade
    log_half_width: float
    evidence: str
    residual: Residual | None = None


@dataclass(frozen=True)
class Calibrations:
    """Calibration files by device, each read when it is first needed, and the transfer widths."""

    files: Mapping[str, Traversable]
    transfer: TransferFile
    over: tuple[DeviceCalibration, ...] = ()  # entries that stand in for those of the files
    arrays: Mapping[str, Traversable] = field(default_factory=dict)  # of residuals
    _read: dict[str, DeviceCalibration] = field(default_factory=dict, repr=False, compare=False)
    _lent: dict[_Asked, Carried | None] = field(default_factory=dict, repr=False, compare=False)

    def device(self, key: str) -> DeviceCalibration | None:
        """The calibration of a device, or None."""
        if key not in self._read:
            own = [_device_calibration(self.files[key], self.arrays.get(key))] if key in self.files else []
            own += [known for known in self.over if known.device == key]
            if own:
                self._read[key] = reduce(DeviceCalibration.under, own)
        return self._read.get(key)

    def overlaid(self, *over: DeviceCalibration) -> "Calibrations":
        """These calibrations, with other entries in place of, and beside, those of the files."""
        return replace(self, over=(*self.over, *over), _read={}, _lent={})

    def without(self, *devices: str) -> "Calibrations":
        """These calibrations as if nobody had measured the devices."""
        kept = {key: file for key, file in self.files.items() if key not in devices}
        over = tuple(o for o in self.over if o.device not in devices)
        return replace(self, files=kept, over=over, _read={}, _lent={})

    @property
    def devices(self) -> tuple[DeviceCalibration, ...]:
        """Every calibrated device, by key."""
        keys = sorted({*self.files, *(known.device for known in self.over)})
        return tuple(known for key in keys if (known := self.device(key)))

    def find(self, device: DeviceFigures, family: str, dtype: str, kernels: Iterable[str]) -> Choice:
        """Constants for a kernel family on a device: its own, or those of the nearest device that has any.

        Raises:
            InputError: no device has constants for this family and dtype.
        """
        candidates = tuple(kernels)
        if own := self.own(device, family, dtype, candidates):
            return own[0]
        key = (device, family, dtype, candidates)
        if key not in self._lent:
            self._lent[key] = carried(self.devices, device, family, dtype, candidates)
        if lent := self._lent[key]:
            return self._carried(device, lent)
        raise InputError(
            Problem(
                f"a kernel must be calibrated on some device: {family} {dtype} ({' or '.join(candidates)})",
                device.key,
            )
        )

    def own(
        self, device: DeviceFigures, family: str, dtype: str, kernels: Iterable[str]
    ) -> tuple[Choice, ...]:
        """The choices among these kernels that are calibrated on the device itself."""
        known = self.device(device.key)
        found = [known.get(family, dtype, kernel) for kernel in kernels] if known else []
        return tuple(
            Choice(entry, Grade.B, entry.log_half_width, _evidence(entry), entry.residual)
            for entry in found
            if entry
        )

    def _carried(self, device: DeviceFigures, lent: Carried) -> Choice:
        """Constants of other devices with the datasheet of this one: a weaker grade, a wider interval."""
        first = lent.lenders[0]
        widths = self.transfer.families[first.family]
        width = widths.within_architecture if lent.within_architecture else widths.across_architectures
        grade = Grade.C if device.architecture in GENERATIONS else Grade.D
        names = " and ".join(entry.device for entry in lent.lenders)
        constants = on_vector_cores(lent.constants, device.architecture)
        entry = replace(first, device=names, constants=constants)
        evidence = f"{entry.label} of {names} with the datasheet of {device.key}: {entry.source}"
        return Choice(entry, grade, max(width, *(one.log_half_width for one in lent.lenders)), evidence)


def _evidence(entry: Calibrated) -> str:
    return f"{entry.label} on {entry.device}: {entry.source}"


def read_constants(entry: EntryFile, file: str) -> Any:
    """The family's dataclass from an entry; a missing, unknown or unitless constant is a problem."""
    if entry.family not in CONSTANTS_OF_FAMILY:
        known, suggestion = ", ".join(CONSTANTS_OF_FAMILY), nearest(entry.family, CONSTANTS_OF_FAMILY)
        raise InputError(Problem(f"family must be one of {known}", entry.family, file, suggestion=suggestion))
    kind = CONSTANTS_OF_FAMILY[entry.family]
    expected, given = {item.name for item in fields(kind)}, set(entry.constants)
    if expected != given:
        path = f"{entry.family} {entry.dtype} {entry.kernel}.constants"
        difference = ", ".join(sorted(expected ^ given))
        raise InputError(
            Problem("constants must be exactly those of the family", difference, file, path=path)
        )
    fitted = {s.name: parse_quantity(str(entry.constants[s.name]), s.dimension) for s in constant_specs(kind)}
    return kind(**{**entry.constants, **fitted})


def _calibrated(entry: EntryFile, device: str, file: str, bumps: BumpsFile | None) -> Calibrated:
    return Calibrated(
        entry.family,
        entry.dtype,
        entry.kernel,
        device,
        read_constants(entry, file),
        entry.log_half_width,
        f"{entry.kind} on {entry.source}, {entry.n_points} points",
        entry.residual,
        bumps,
    )


def _device_calibration(file: Traversable | Path, arrays: Traversable | None = None) -> DeviceCalibration:
    """What one file says; `arrays` holds the residuals that its entries name."""
    read = validate_file(CalibrationFile, file, file.name)
    bumps = BumpsFile(arrays, read.residuals_sha256) if arrays and read.residuals_sha256 else None
    entries = tuple(_calibrated(entry, read.device, file.name, bumps) for entry in read.entries)
    bandwidth = parse_quantity(str(read.figures["bandwidth"]), "bytes_per_s")
    return DeviceCalibration(read.device, read.architecture, bandwidth / float(read.figures["n_sm"]), entries)


def read_calibration(path: Path, system: str) -> DeviceCalibration:
    """The user's calibration of the device of a system.

    Raises:
        InputError: the file is missing or wrong, or is that of another device.
    """
    if not path.is_file():
        raise InputError(Problem("calibration file must exist", str(path)))
    known = _device_calibration(path)
    device = load_system(system).device.key
    if known.device != device:
        requirement = f"must be the calibration of the system's device, {device}"
        raise InputError(Problem(requirement, known.device, path.name, path="device"))
    return known


def calibrations_with(path: str, system: str) -> Calibrations:
    """The shipped calibrations, with the entries of a user's file (empty: none) over them."""
    shipped = shipped_calibrations()
    return shipped.overlaid(read_calibration(Path(path), system)) if path else shipped


@lru_cache(maxsize=1)
def shipped_calibrations() -> Calibrations:
    """The calibrations that come with the package: one file `kernels_DEVICE.yaml` a device."""
    folder = files("hardware_specs") / "calibrations"
    transfer = validate_file(TransferFile, folder / "kernel_transfer.yaml")
    arrays = _by_device(folder, "residuals", "npz")
    return Calibrations(_by_device(folder, "kernels", "yaml"), transfer, arrays=arrays)


def _by_device(folder: Traversable, kind: str, suffix: str) -> dict[str, Traversable]:
    """Files `KIND_DEVICE.SUFFIX` of a folder by device."""
    named = {file.name: file for file in folder.iterdir()}
    start, end = f"{kind}_", f".{suffix}"
    return {
        name.removeprefix(start).removesuffix(end): file
        for name, file in named.items()
        if name.startswith(start) and name.endswith(end)
    }


def constants_as_written(constants: Any) -> dict[str, str | float]:
    """Constants in the form of the file: four significant digits with their unit, then choices of form."""
    specs = {spec.name: spec for spec in constant_specs(type(constants))}
    written: dict[str, str | float] = {}
    for item in fields(constants):
        value, spec = getattr(constants, item.name), specs.get(item.name)
        if spec is None:
            written[item.name] = value
        elif spec.unit == "1":
            written[item.name] = float(f"{value:.4g}")
        else:
            written[item.name] = f"{value / unit_factor(spec.unit, spec.dimension):.4g} {spec.unit}"
    return written
