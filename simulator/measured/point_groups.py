"""Measured calls of one kernel, however they came: what a fit needs, and which constants a call asks for.

A call is priced by the kernel library itself under trial constants, so that what is fitted is what every
forecast uses afterwards.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError
from simulator.costs.calibrated import Calibrated, DeviceCalibration
from simulator.costs.calibration import Calibrations, Choice
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.costs.kernel_sources import SourceEntry
from simulator.costs.library import KernelLibrary

Index = NDArray[np.intp]
#: family, dtype and kernel library of an entry
Key = tuple[str, str, str]


@dataclass(frozen=True)
class PointGroup:
    """Measured calls of one kernel. `predict` prices those of an index under constants, in seconds."""

    family: str
    dtype: str
    kernel: str
    kernels: tuple[str, ...]  # in order of preference, for what other devices lend
    latency_s: FloatArray
    sites: tuple[str, ...]
    predict: Callable[[Any, Index], FloatArray]
    fixed: frozenset[str] = frozenset()  # constants that the calls cannot tell
    form: tuple[tuple[str, str], ...] = ()  # choices of form, as fields of the constants

    def __len__(self) -> int:
        return len(self.latency_s)

    @property
    def label(self) -> str:
        """Family, dtype and kernel library."""
        return f"{self.family} {self.dtype} {self.kernel}"


@dataclass(frozen=True)
class CallBatch:
    """Calls of one kernel that `runs` makes; `price` gives the seconds of those of an index."""

    runs: SourceEntry
    latency_s: FloatArray
    sites: tuple[str, ...]
    price: Callable[[KernelLibrary, Index], FloatArray]


@dataclass(frozen=True)
class _Listening(Calibrations):
    """Calibrations that note what they are asked for."""

    asked: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)

    def own(
        self, device: DeviceFigures, family: str, dtype: str, kernels: Iterable[str]
    ) -> tuple[Choice, ...]:
        """What is calibrated on the device, as ever."""
        names = tuple(kernels)
        self.asked.append((family, dtype, names))
        return super().own(device, family, dtype, names)


class Asking:
    """Finds which constants a call asks for on a system."""

    def __init__(self, system: SystemSpec, calibrations: Calibrations) -> None:
        self._calibrations = _Listening(calibrations.files, calibrations.transfer, calibrations.over)
        self._system = system
        self._libraries: dict[SourceEntry, KernelLibrary] = {}

    def library(self, runs: SourceEntry) -> KernelLibrary:
        """The library of an engine, and of its kernel that is timed, whose questions are noted."""
        if runs not in self._libraries:
            self._libraries[runs] = _library(self._system, runs, self._calibrations)
        return self._libraries[runs]

    def of(
        self, runs: SourceEntry, call: Callable[[KernelLibrary], object]
    ) -> tuple[str, str, tuple[str, ...]]:
        """Family, dtype and kernels that the call asks for first.

        Raises:
            InputError: the call is none that the library prices.
        """
        self._calibrations.asked.clear()
        try:
            call(self.library(runs))
        except InputError:
            if not self._calibrations.asked:  # otherwise only constants are lacking, which a fit supplies
                raise
        return self._calibrations.asked[0]


def _library(system: SystemSpec, runs: SourceEntry, calibrations: Calibrations) -> KernelLibrary:
    return KernelLibrary(system, runs.engine, calibrations, timed_kernel=runs.kernel)


def trial(device: DeviceFigures, key: Key, constants: Any) -> DeviceCalibration:
    """A calibration of the device that holds one entry."""
    entry = Calibrated(*key, device.key, constants, 0.0, "on trial")
    bandwidth = device.bandwidth_bytes_per_s / device.n_sm
    return DeviceCalibration(device.key, device.architecture, bandwidth, (entry,))


def group_of(
    system: SystemSpec,
    calibrations: Calibrations,
    asked: tuple[str, str, tuple[str, ...]],
    batches: Sequence[CallBatch],
) -> PointGroup:
    """The batches of one kernel as one group."""
    family, dtype, kernels = asked
    device = DeviceFigures.from_system(system)
    key = (family, dtype, kernels[0])
    starts = np.cumsum([0, *(len(batch.latency_s) for batch in batches)])

    def predict(constants: Any, index: Index) -> FloatArray:
        known = calibrations.overlaid(trial(device, key, constants))
        found = np.empty(len(index))
        for batch, start, stop in zip(batches, starts, starts[1:], strict=False):
            inside = (index >= start) & (index < stop)
            if inside.any():
                library = _library(system, batch.runs, known)
                found[inside] = batch.price(library, index[inside] - start)
        return found

    return PointGroup(
        *key,
        kernels,
        np.concatenate([batch.latency_s for batch in batches]),
        tuple(site for batch in batches for site in batch.sites),
        predict,
    )


def grouped(
    system: SystemSpec,
    calibrations: Calibrations,
    batches: Iterable[tuple[tuple[str, str, tuple[str, ...]], CallBatch]],
) -> tuple[PointGroup, ...]:
    """One group for each kernel that the batches ask for, by family, dtype and kernel."""
    found = defaultdict(list)
    for asked, batch in batches:
        found[asked[0], asked[1], asked[2][0]].append((asked, batch))
    return tuple(
        group_of(system, calibrations, found[key][0][0], [batch for _, batch in found[key]])
        for key in sorted(found)
    )
