"""What the files of hosts, drives and memory expanders must hold; as `forms` does for devices."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from hardware_specs.dram import bandwidth_problems, pin_bandwidth, rate_problems
from hardware_specs.forms import Form, Key
from hardware_specs.parts import DramSpec, DriveSpec, ExpanderSpec, HostSpec, LinkSpec
from hardware_specs.records.errors import Problem
from hardware_specs.records.fields import (
    BytesPerSecondQ,
    BytesQ,
    CountQ,
    FlopPerSecondQ,
    HzQ,
    PerSecondQ,
    SecondsQ,
    WattsQ,
)
from hardware_specs.records.quantities import Kind, Quantity


class HostForm(Form):
    """The processors of a node and the memory at their channels."""

    part: Literal["host"]
    sockets: CountQ
    cores: CountQ = Field(description="of one socket")
    clock: HzQ = Field(description="base clock, behind the peak")
    bf16_flop_per_cycle: CountQ | None = Field(None, description="of one core, dense")
    bf16_peak: FlopPerSecondQ | None = Field(None, description="of all sockets, where it is published")
    tdp: WattsQ | None = Field(None, description="of one socket")
    family: Key
    channels: CountQ = Field(description="of one socket")
    pin_rate: BytesPerSecondQ
    memory_bandwidth: BytesPerSecondQ | None = Field(None, description="of all sockets, as published")

    def build(self, dram: DramSpec) -> HostSpec:
        """The record; bandwidth and peak are the published ones, or those of channels and cores."""
        return HostSpec(
            key=self.key,
            name=self.name,
            n_sockets=self.sockets,
            n_cores=self.cores,
            clock_hz=self.clock,
            dram=dram,
            n_channels=self.channels,
            pin_rate_bytes_per_s=self.pin_rate,
            memory_bandwidth_bytes_per_s=self.memory_bandwidth or self._pin_bandwidth(dram),
            bf16_flop_per_cycle=self.bf16_flop_per_cycle,
            bf16_peak_flop_per_s=self.bf16_peak or self._peak(),
            tdp_w=self.tdp,
        )

    def contradictions(self, dram: DramSpec) -> Iterator[Problem]:
        """Where the published bandwidth is not that of the channels."""
        yield from rate_problems(dram, self.pin_rate)
        if self.memory_bandwidth is not None:
            pins = self._pin_bandwidth(dram)
            yield from bandwidth_problems(pins, self.memory_bandwidth, "memory_bandwidth")

    def _pin_bandwidth(self, dram: DramSpec) -> Quantity:
        channels = self.sockets.value * self.channels.value
        all_sockets = Quantity(channels, "1", self.channels.source, self.channels.kind)
        return pin_bandwidth(dram, all_sockets, self.pin_rate)

    def _peak(self) -> Quantity | None:
        if self.bf16_flop_per_cycle is None:
            return None
        cores, rate = self.sockets.value * self.cores.value, self.bf16_flop_per_cycle.value
        text = f"computed: {cores:g} cores x {rate:g} FLOP a cycle x {self.clock.written()}"
        return Quantity(cores * rate * self.clock.value, "TFLOP/s", text, Kind.ASSUMED, self.clock.source)


class DriveForm(Form):
    """An NVMe drive."""

    part: Literal["drive"]
    sequential_read: BytesPerSecondQ
    sequential_write: BytesPerSecondQ | None = None
    random_read: PerSecondQ | None = Field(None, description="operations of 4 KiB")
    random_write: PerSecondQ | None = Field(None, description="operations of 4 KiB")
    read_latency: SecondsQ | None = Field(None, description="of one random read, queue depth 1")
    max_power: WattsQ | None = None

    def build(self) -> DriveSpec:
        """The record."""
        return DriveSpec(
            self.key,
            self.name,
            self.sequential_read,
            self.sequential_write,
            self.random_read,
            self.random_write,
            self.read_latency,
            self.max_power,
        )


class ExpanderForm(Form):
    """A CXL type-3 device: DRAM behind a controller and a link."""

    part: Literal["expander"]
    controller: Literal["asic", "fpga"]
    family: Key
    unit_count: CountQ = Field(description="channels of the family")
    pin_rate: BytesPerSecondQ
    link: Key
    capacity: BytesQ | None = None
    idle_latency: SecondsQ | None = Field(None, description="of a load by a core of the host")
    bandwidth: BytesPerSecondQ = Field(description="that a loaded host reaches")
    controller_power: WattsQ | None = Field(None, description="without DRAM")

    def build(self, dram: DramSpec, link: LinkSpec) -> ExpanderSpec:
        """The record with its DRAM family and its link."""
        return ExpanderSpec(
            key=self.key,
            name=self.name,
            controller=self.controller,
            dram=dram,
            n_channels=self.unit_count,
            pin_rate_bytes_per_s=self.pin_rate,
            link=link,
            bandwidth_bytes_per_s=self.bandwidth,
            idle_latency_s=self.idle_latency,
            capacity_bytes=self.capacity,
            controller_power_w=self.controller_power,
        )

    def contradictions(self, dram: DramSpec) -> Iterator[Problem]:
        """Where more is reached than the pins of the DRAM give."""
        yield from rate_problems(dram, self.pin_rate)
        pins = pin_bandwidth(dram, self.unit_count, self.pin_rate)
        if self.bandwidth.value > pins.value:
            requirement = f"must be at most {pins.written()} ({pins.source})"
            yield Problem(requirement, self.bandwidth.written(), path="bandwidth")
