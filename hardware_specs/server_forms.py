"""What the files of links, nodes and clusters must hold, and lists of prices; as `forms` does for devices."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_specs.forms import Form, Key
from hardware_specs.parts import ClusterSpec, DriveSpec, ExpanderSpec, GroupLink, HostSpec, LinkSpec, NodeSpec
from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.fields import (
    BytesPerSecondQ,
    BytesQ,
    CountQ,
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


@dataclass(frozen=True)
class NodeLinks:
    """The links of a node, as its file names them."""

    scale_up: LinkSpec
    host_link: LinkSpec
    nic: LinkSpec


class GroupLinkForm(BaseModel):
    """What a group of devices reaches: measured or fitted, or counted in the links of a published mesh."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bandwidth: BytesPerSecondQ = Field(
        description="bus bandwidth of a large all-reduce, per device and direction (busbw of nccl-tests)"
    )
    latency: SecondsQ = Field(description="of a small all-reduce, in place of the link's")

    @model_validator(mode="after")
    def _is_of_this_box(self) -> Self:
        if self.bandwidth.kind is Kind.ASSUMED:
            requirement = "must be measured, fitted or of a datasheet"
            raise InputError(Problem(requirement, Kind.ASSUMED, path="bandwidth.kind"))
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
    host: Key | None = None
    drive: Key | None = None
    host_note: str | None = Field(None, description="why this host and this drive, where nobody states them")
    expander: Key | None = Field(None, description="memory behind CXL")
    expander_count: CountQ | None = None
    unified_memory: bool = Field(False, description="device and host share one memory, the device's own")

    @model_validator(mode="after")
    def _has_groups_that_fit(self) -> Self:
        most = int(self.scale_up_count.value)
        if wrong := [size for size in self.scale_up_by_group if not 2 <= size <= most]:
            listed = ", ".join(map(str, wrong))
            requirement = f"must be group sizes of 2 to scale_up_count ({most})"
            raise InputError(Problem(requirement, listed, path="scale_up_by_group"))
        return self

    @model_validator(mode="after")
    def _counts_its_expanders(self) -> Self:
        if (self.expander is None) != (self.expander_count is None):
            raise ValueError("must have expander and expander_count together")
        return self

    def build(
        self,
        links: NodeLinks,
        host: HostSpec | None = None,
        drive: DriveSpec | None = None,
        expander: ExpanderSpec | None = None,
    ) -> NodeSpec:
        """The record with the parts that it names."""
        groups = self.scale_up_by_group
        return NodeSpec(
            key=self.key,
            name=self.name,
            device_key=self.device,
            n_devices=self.device_count,
            scale_up=links.scale_up,
            n_scale_up_devices=self.scale_up_count,
            host_link=links.host_link,
            nic=links.nic,
            nics_per_device=self.nics_per_device,
            host_memory_bytes=self.host_memory,
            host_power_w=self.host_power,
            host=host,
            drive=drive,
            expander=expander,
            n_expanders=self.expander_count,
            has_unified_memory=self.unified_memory,
            scale_up_by_group={size: groups[size].build() for size in sorted(groups)},
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
