"""Bandwidth of a memory from the DRAM that it is built of: units x data pins of a unit x rate of a pin."""

from collections.abc import Iterator
from typing import Protocol

from hardware_specs.parts import DramSpec
from hardware_specs.records.errors import Problem
from hardware_specs.records.quantities import Kind, Quantity

#: by how much a published bandwidth, or the rate of a pin, may be off before it must be explained
TOLERANCE = 0.02


class Built(Protocol):
    """A form of something that is built of DRAM."""

    def contradictions(self, dram: DramSpec) -> Iterator[Problem]:
        """Where it says something else than the family does."""


def pin_bandwidth(
    dram: DramSpec, n_units: Quantity, pin_rate: Quantity, efficiency: Quantity | None = None
) -> Quantity:
    """Bytes/s of all pins, times the efficiency where one is given. Known as its weakest figure is."""
    figures = [figure for figure in (n_units, dram.data_pins, pin_rate, efficiency) if figure is not None]
    value = 1.0
    for figure in figures:
        value *= figure.value
    kinds = {figure.kind for figure in figures}
    weakest = next((kind for kind in (Kind.ASSUMED, Kind.FITTED) if kind in kinds), Kind.DATASHEET)
    share = f" x {efficiency.written()}" if efficiency else ""
    text = f"{n_units.written()} {dram.unit}s x {dram.data_pins.written()} pins x {pin_rate.written()}{share}"
    return Quantity(value, "GB/s", f"computed: {text}", weakest, pin_rate.source)


def rate_problems(dram: DramSpec, pin_rate: Quantity) -> Iterator[Problem]:
    """A pin that is slower or faster than those of its family."""
    slowest, fastest = dram.pin_rate_min_bytes_per_s, dram.pin_rate_max_bytes_per_s
    if not slowest.value * (1 - TOLERANCE) <= pin_rate.value <= fastest.value * (1 + TOLERANCE):
        bounds = f"{slowest.written()} to {fastest.written()}"
        yield Problem(f"must be a rate of {dram.name} ({bounds})", pin_rate.written(), path="pin_rate")


def bandwidth_problems(pins: Quantity, published: Quantity, path: str = "bandwidth") -> Iterator[Problem]:
    """A published bandwidth that the pins do not give."""
    if abs(published.value / pins.value - 1) > TOLERANCE:
        near = f"must be within 2% of {pins.written()} ({pins.source})"
        yield Problem(f"{near}, or be explained", published.written(), path=path)
