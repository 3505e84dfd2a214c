"""Clocks that mark points of a step: the processor's own, or events on a CUDA stream."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks points of a run, and says afterwards when they were."""

    def mark(self) -> Any:
        """A mark of now."""

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Seconds from the first mark to each of them, once the device has reached the last."""


class CpuClock:
    """The processor's monotonic clock, in steps of nanoseconds."""

    def mark(self) -> int:
        """A mark of now."""
        return time.perf_counter_ns()

    def seconds(self, marks: Sequence[int]) -> list[float]:
        """Seconds from the first mark to each of them."""
        return [(mark - marks[0]) * 1e-9 for mark in marks]


class CudaClock:
    """Events on the current stream: what the device has done, not what the host has launched."""

    def mark(self) -> Any:
        """An event behind everything that was launched so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Seconds from the first event to each of them; waits for the device."""
        torch.cuda.synchronize()
        return [marks[0].elapsed_time(mark) * 1e-3 for mark in marks]


class SynchronisedClock(CpuClock):
    """The processor's clock once the CUDA device has nothing left to do: for steps that run on both."""

    def mark(self) -> int:
        """A mark of now, when the device has done all that was launched."""
        torch.cuda.synchronize()
        return super().mark()


def clock_of(device: str, *, placed: bool = False) -> Clock:
    """The clock of a device, `cpu` or `cuda`, or of a step that is placed on both."""
    if device == "cpu":
        return CpuClock()
    return SynchronisedClock() if placed else CudaClock()
