"""What each kind of hardware file must hold, as pydantic models; `build` turns a form into its frozen record.

A file says its `part`, its `key` (the file's name) and its figures; it names other parts by key, which
`library` resolves. Here are devices and their memories; `server_forms` has what stands around them.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from hardware_specs.dram import bandwidth_problems, pin_bandwidth, rate_problems
from hardware_specs.engines import EngineSpec
from hardware_specs.parts import DeviceSpec, DramSpec, MemorySpec
from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.fields import (
    BytesPerSecondQ,
    BytesQ,
    CountQ,
    FlopPerSecondQ,
    FractionQ,
    HzQ,
    JoulesPerByteQ,
    WattsQ,
)
from hardware_specs.records.quantities import Quantity

Key = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="lower case, as in the file's name")
]
PeakName = Literal["fp64", "fp32", "tf32", "bf16", "fp8", "int8", "fp4"]


class Form(BaseModel):
    """What every file of the hardware library starts with. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    part: str
    key: Key
    name: Annotated[str, Field(min_length=1)]


class DramForm(Form):
    """A family of DRAM as its standard and its vendors describe it."""

    part: Literal["dram"]
    unit: Literal["stack", "chip", "channel"] = Field(description="what a memory of the family counts")
    data_pins: CountQ = Field(description="of one unit; check bits are not counted")
    pin_rate_min: BytesPerSecondQ = Field(description="slowest in products")
    pin_rate_max: BytesPerSecondQ = Field(description="of the standard, or of the fastest product")
    energy: JoulesPerByteQ = Field(description="of a read of the DRAM, array and interface")

    def build(self) -> DramSpec:
        """The record."""
        return DramSpec(
            self.key, self.name, self.unit, self.data_pins, self.pin_rate_min, self.pin_rate_max, self.energy
        )


class MemoryForm(Form):
    """A memory of a device: of a DRAM family, or of a technology whose bandwidth is published as it is."""

    part: Literal["memory"]
    family: Key | None = None
    technology: str | None = Field(None, description="only where the memory is not described by a family")
    unit_count: CountQ | None = Field(None, description="stacks, chips or channels, as the family counts")
    pin_rate: BytesPerSecondQ | None = None
    efficiency: FractionQ | None = Field(None, description="share of the pins' rate, where it is known")
    capacity: BytesQ = Field(description="as the driver reports it, not as it is sold")
    bandwidth: BytesPerSecondQ | None = Field(None, description="as published; forecasts use it")
    bandwidth_explained: str | None = Field(
        None, description="why the published bandwidth differs from that of the pins by more than 2%"
    )

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        built = (self.unit_count, self.pin_rate)
        if (self.family is None) == (self.technology is None):
            raise ValueError("must have either family or technology")
        if self.family is not None and None in built:
            raise ValueError("must have unit_count and pin_rate beside family")
        if self.family is None and (built != (None, None) or self.bandwidth is None):
            raise ValueError("must have bandwidth, and neither unit_count nor pin_rate, beside technology")
        return self

    def build(self, dram: DramSpec | None) -> MemorySpec:
        """The record; its bandwidth is the published one, or that of the pins."""
        bandwidth = self.bandwidth or (self._pin_bandwidth(dram) if dram else None)
        assert bandwidth is not None, "a memory without a family has a published bandwidth"
        return MemorySpec(
            key=self.key,
            name=self.name,
            technology=dram.name if dram else str(self.technology),
            capacity_bytes=self.capacity,
            bandwidth_bytes_per_s=bandwidth,
            dram=dram,
            n_units=self.unit_count,
            pin_rate_bytes_per_s=self.pin_rate,
        )

    def contradictions(self, dram: DramSpec) -> Iterator[Problem]:
        """Where the memory says something else than its family does."""
        assert self.pin_rate is not None
        yield from rate_problems(dram, self.pin_rate)
        if self.bandwidth is not None and self.bandwidth_explained is None:
            yield from bandwidth_problems(self._pin_bandwidth(dram), self.bandwidth)

    def _pin_bandwidth(self, dram: DramSpec) -> Quantity:
        assert self.unit_count is not None and self.pin_rate is not None
        return pin_bandwidth(dram, self.unit_count, self.pin_rate, self.efficiency)


class InlineMemory(MemoryForm):
    """A memory inside the file of its device, which needs no key of its own."""

    schema_version: Literal[1] = 1
    part: Literal["memory"] = "memory"
    key: Key = "inline"
    name: str = "memory of the device"


def _memory_tag(value: Any) -> str:
    return "key" if isinstance(value, str) else "inline"


class DeviceForm(Form):
    """One accelerator as its vendor sells it, with an engine beside its digital unit where it has one."""

    part: Literal["device"]
    vendor: str
    architecture: str
    aliases: tuple[str, ...] = ()
    memory: Annotated[
        Annotated[Key, Tag("key")] | Annotated[InlineMemory, Tag("inline")], Discriminator(_memory_tag)
    ]
    sm_count: CountQ
    clock: HzQ = Field(description="the clock behind the dense tensor peaks")
    l2_capacity: BytesQ
    memory_side_cache: BytesQ | None = Field(
        None, description="between L2 and memory; kernel models ignore it"
    )
    dense_peak: Annotated[dict[PeakName, FlopPerSecondQ], Field(min_length=1)]
    tdp: WattsQ
    idle_power: WattsQ | None = None
    engine: EngineSpec | None = None

    @model_validator(mode="after")
    def _falls_back_in_every_dtype(self) -> Self:
        dtypes = self.engine.dtypes if self.engine else ()
        if missing := [dtype for dtype in dtypes if dtype not in self.dense_peak]:
            requirement = "must be dtypes that the digital unit has a dense_peak of"
            raise InputError(Problem(requirement, ", ".join(missing), path="engine.dtypes"))
        return self

    def build(self, memory: MemorySpec) -> DeviceSpec:
        """The record with its memory."""
        return DeviceSpec(
            key=self.key,
            name=self.name,
            vendor=self.vendor,
            architecture=self.architecture,
            n_sm=self.sm_count,
            clock_hz=self.clock,
            l2_bytes=self.l2_capacity,
            memory_side_cache_bytes=self.memory_side_cache,
            peak_flop_per_s={str(dtype): peak for dtype, peak in self.dense_peak.items()},
            memory=memory,
            tdp_w=self.tdp,
            idle_w=self.idle_power,
            aliases=self.aliases,
            engine=self.engine,
        )
