"""What the files of links, nodes and clusters must hold, and lists of prices; as `forms` does for devices."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_specs.forms import Form, Key
from hardware_specs.parts import ClusterSpec, GroupLink, LinkSpec, NodeSpec
from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.fields import (
    BytesPerSecondQ,
    BytesQ,
    CountQ,
    FlopPerSecondQ,
    SecondsQ,
    UsdPerHourQ,
    WattsQ,
)
from hardware_specs.records.quantities import Kind


class LinkForm(Form):
    """A link between two endpoints."""

    part: Literal["link"]
    technology: str
    bandwidth: BytesPerSecondQ = Field(description="per device (or port) and direction")
    latency: SecondsQ = Field(description="of an empty message")

    def build(self) -> LinkSpec:
        """The record."""
        return LinkSpec(self.key, self.name, self.technology, self.bandwidth, self.latency)


class GroupLinkForm(BaseModel):
    """What a group of devices reaches, measured or fitted; a datasheet has no such figure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bandwidth: BytesPerSecondQ = Field(
        description="bus bandwidth of a large all-reduce, per device and direction (busbw of nccl-tests)"
    )
    latency: SecondsQ = Field(description="of a small all-reduce, in place of the link's")

    @model_validator(mode="after")
    def _is_of_this_box(self) -> Self:
        named = {"bandwidth": self.bandwidth, "latency": self.latency}
        wrong = {name: q for name, q in named.items() if q.kind not in (Kind.MEASURED, Kind.FITTED)}
        if wrong:
            problems = (
                Problem("must be measured or fitted", q.kind, path=f"{n}.kind") for n, q in wrong.items()
            )
            raise InputError(*problems)
        return self

    def build(self) -> GroupLink:
        """The record."""
        return GroupLink(self.bandwidth, self.latency)


class NodeForm(Form):
    """A server."""

    part: Literal["node"]
    device: Key
    device_count: CountQ
    scale_up_link: Key
    scale_up_count: CountQ = Field(
        description="devices that the scale-up fabric joins; more than a node's in a rack"
    )
    scale_up_by_group: dict[int, GroupLinkForm] = Field(
        {}, description="by group size, of a node without a switch: a group of two may share a faster path"
    )
    host_link: Key
    nic: Key
    nics_per_device: CountQ
    host_memory: BytesQ
    host_power: WattsQ | None = None
    host_memory_bandwidth: BytesPerSecondQ | None = Field(None, description="of all sockets, peak")
    host_bf16_peak: FlopPerSecondQ | None = Field(None, description="of all sockets, dense")
    storage_bandwidth: BytesPerSecondQ | None = Field(None, description="sequential reads of local drives")

    @model_validator(mode="after")
    def _has_groups_that_fit(self) -> Self:
        most = int(self.scale_up_count.value)
        if wrong := [size for size in self.scale_up_by_group if not 2 <= size <= most]:
            listed = ", ".join(map(str, wrong))
            requirement = f"must be group sizes of 2 to scale_up_count ({most})"
            raise InputError(Problem(requirement, listed, path="scale_up_by_group"))
        return self

    def build(self, scale_up: LinkSpec, host_link: LinkSpec, nic: LinkSpec) -> NodeSpec:
        """The record with its links."""
        return NodeSpec(
            key=self.key,
            name=self.name,
            device_key=self.device,
            n_devices=self.device_count,
            scale_up=scale_up,
            n_scale_up_devices=self.scale_up_count,
            scale_up_by_group={
                size: self.scale_up_by_group[size].build() for size in sorted(self.scale_up_by_group)
            },
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
