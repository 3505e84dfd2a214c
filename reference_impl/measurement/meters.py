"""Energy of a step, read from the machine's own meters; where none can be read, a reason and no number.

A meter counts everything that its domain draws, idle power and other processes included. Steps are far
shorter than a meter's resolution, so they are repeated over a window and the window is divided by their
number.
"""

import threading
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch

from model_graphs.runs.measurement import EnergyReading

POWERCAP = Path("/sys/class/powercap")
WINDOW_S = 1.0
SAMPLING_S = 0.01

Run = Callable[[], object]


class Meter(Protocol):
    """Joules that a domain draws while something runs."""

    method: str

    def joules(self, run: Run) -> float:
        """Joules drawn during the run."""


class RaplMeter:
    """The processor packages' own counters, which wrap around."""

    method = "RAPL counters of all processor packages, idle power and other processes included"

    def __init__(self, domains: tuple[Path, ...]) -> None:
        self.domains = domains
        self.ranges_uj = [_counter(domain / "max_energy_range_uj") for domain in domains]
        self._read()

    def joules(self, run: Run) -> float:
        """Joules drawn during the run."""
        before = self._read()
        run()
        moved = zip(before, self._read(), self.ranges_uj, strict=True)
        return sum((after - start) % (span + 1) for start, after, span in moved) * 1e-6

    def _read(self) -> list[int]:
        return [_counter(domain / "energy_uj") for domain in self.domains]


class NvmlCounter:
    """The device's own count of millijoules."""

    method = "NVML total energy counter of the device"

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle
        self._read()

    def joules(self, run: Run) -> float:
        """Joules drawn during the run."""
        before = self._read()
        run()
        return (self._read() - before) * 1e-3

    def _read(self) -> int:
        return int(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))


class NvmlSampler:
    """Samples of the device's power, integrated by trapezoids."""

    method = f"NVML power sampled every {SAMPLING_S * 1e3:.0f} ms, integrated by trapezoids"

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle

    def joules(self, run: Run) -> float:
        """Joules drawn during the run."""
        samples = [self._sample()]
        done = threading.Event()

        def keep_sampling() -> None:
            while not done.wait(SAMPLING_S):
                samples.append(self._sample())

        sampler = threading.Thread(target=keep_sampling, daemon=True)
        sampler.start()
        try:
            run()
        finally:
            done.set()
            sampler.join()
        return trapezoids([*samples, self._sample()])

    def _sample(self) -> tuple[float, float]:
        return time.perf_counter(), self.nvml.nvmlDeviceGetPowerUsage(self.handle) * 1e-3


def trapezoids(samples: list[tuple[float, float]]) -> float:
    """Joules under samples of (seconds, watts)."""
    return sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(samples))


def step_energy(meter: Meter | str, step: Run, window_s: float = WINDOW_S) -> EnergyReading:
    """Joules of one step by the meter, or the reason why there is none."""
    if isinstance(meter, str):
        return EnergyReading(None, "none", meter)
    n_steps = 0

    def repeat() -> None:
        nonlocal n_steps
        end = time.perf_counter() + window_s
        while n_steps == 0 or time.perf_counter() < end:
            step()
            n_steps += 1

    joules = meter.joules(repeat)
    if joules <= 0.0:
        return EnergyReading(None, meter.method, "the meter did not move while steps ran")
    return EnergyReading(joules / n_steps, meter.method)


def meter_of(device: str) -> Meter | str:
    """The best meter of a device, `cpu` or `cuda`, or the reason why there is none."""
    return cuda_meter() if device == "cuda" else cpu_meter()


def cpu_meter(folder: Path = POWERCAP) -> Meter | str:
    """The processor's meter, or the reason why there is none."""
    domains = tuple(sorted(path for path in folder.glob("intel-rapl:*") if path.name.count(":") == 1))
    if not domains:
        return f"no RAPL domain under {folder}"
    try:
        return RaplMeter(domains)
    except OSError as error:
        return f"RAPL counters cannot be read: {error.strerror}"


def cuda_meter() -> Meter | str:
    """The current CUDA device's meter, or the reason why there is none."""
    if find_spec("pynvml") is None:
        return "NVML is not installed: pip install 'silicast[measure]'"
    nvml = import_module("pynvml")
    try:
        nvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        return nvml_meter(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except nvml.NVMLError as error:
        return f"NVML cannot be read: {error}"


def nvml_meter(nvml: Any, handle: Any) -> Meter:
    """The device's energy counter where it has one, else its sampled power."""
    try:
        return NvmlCounter(nvml, handle)
    except nvml.NVMLError:
        return NvmlSampler(nvml, handle)


def _counter(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
