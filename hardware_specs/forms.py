"""What each kind of hardware file must hold, as pydantic models; `build` turns a form into its frozen record.

A file says its `part`, its `key` (the file's name) and its figures; it names other parts by key, which
`library` resolves.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from hardware_specs.engines import EngineSpec
from hardware_specs.parts import ClusterSpec, DeviceSpec, LinkSpec, MemorySpec, NodeSpec
from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.fields import (
    BytesPerSecondQ,
    BytesQ,
    CountQ,
    FlopPerSecondQ,
    HzQ,
    SecondsQ,
    UsdPerHourQ,
    WattsQ,
)

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


class MemoryForm(Form):
    """A memory of a device."""

    part: Literal["memory"]
    technology: str
    stack_count: CountQ | None = None
    capacity: BytesQ = Field(description="as the driver reports it, not as it is sold")
    bandwidth: BytesPerSecondQ

    def build(self) -> MemorySpec:
        """The record."""
        return MemorySpec(
            self.key, self.name, self.technology, self.capacity, self.bandwidth, n_stacks=self.stack_count
        )


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
            peak_flop_per_s={str(dtype): peak for dtype, peak in self.dense_peak.items()},
            memory=memory,
            tdp_w=self.tdp,
            idle_w=self.idle_power,
            aliases=self.aliases,
            engine=self.engine,
        )


class LinkForm(Form):
    """A link between two endpoints."""

    part: Literal["link"]
    technology: str
    bandwidth: BytesPerSecondQ = Field(description="per device (or port) and direction")
    latency: SecondsQ = Field(description="of an empty message")

    def build(self) -> LinkSpec:
        """The record."""
        return LinkSpec(self.key, self.name, self.technology, self.bandwidth, self.latency)


class NodeForm(Form):
    """A server."""

    part: Literal["node"]
    device: Key
    device_count: CountQ
    scale_up_link: Key
    scale_up_count: CountQ = Field(
        description="devices that the scale-up fabric joins; more than a node's in a rack"
    )
    host_link: Key
    nic: Key
    nics_per_device: CountQ
    host_memory: BytesQ
    host_power: WattsQ | None = None
    host_memory_bandwidth: BytesPerSecondQ | None = Field(None, description="of all sockets, peak")
    host_bf16_peak: FlopPerSecondQ | None = Field(None, description="of all sockets, dense")
    storage_bandwidth: BytesPerSecondQ | None = Field(None, description="sequential reads of local drives")

    def build(self, scale_up: LinkSpec, host_link: LinkSpec, nic: LinkSpec) -> NodeSpec:
        """The record with its links."""
        return NodeSpec(
            key=self.key,
            name=self.name,
            device_key=self.device,
            n_devices=self.device_count,
            scale_up=scale_up,
            n_scale_up_devices=self.scale_up_count,
            host_link=host_link,
            nic=nic,
            nics_per_device=self.nics_per_device,
            host_memory_bytes=self.host_memory,
            host_power_w=self.host_power,
            host_memory_bandwidth_bytes_per_s=self.host_memory_bandwidth,
            host_bf16_peak_flop_per_s=self.host_bf16_peak,
            storage_bandwidth_bytes_per_s=self.storage_bandwidth,
        )


class ClusterForm(Form):
    """Identical nodes on one scale-out fabric. Its key is the key of the system that a deployment names."""

    part: Literal["cluster"]
    aliases: tuple[str, ...] = ()
    node: Key
    max_nodes: CountQ

    def build(self) -> ClusterSpec:
        """The record."""
        return ClusterSpec(self.key, self.name, self.node, self.max_nodes, aliases=self.aliases)


class PriceForm(BaseModel):
    """What one market asked for a device-hour of a system at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: Key
    market: Annotated[str, Field(min_length=1, description="who sells: specialty cloud, hyperscaler, ...")]
    bound: Literal["low", "typical", "high"]
    as_of: Annotated[str, Field(pattern=r"^\d{4}-\d{2}$", description="month of the price, YYYY-MM")]
    price: UsdPerHourQ


class PriceListForm(Form):
    """A dated list of prices of device-hours."""

    part: Literal["price_list"]
    prices: tuple[PriceForm, ...]
