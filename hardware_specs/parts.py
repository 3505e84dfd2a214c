"""What a hardware description is once read: frozen parts whose figures are `Quantity` records.

Device, memory, link, node and cluster are one part a file; a `SystemSpec` is a device in its node in its
cluster, which is what a deployment names (`h200_sxm`). Bandwidths are per device and direction; peaks are
dense; a memory capacity is what the driver reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hardware_specs.engines import EngineSpec
from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.quantities import Quantity

#: compute dtype -> the entry of `peak_flop_per_s` that bounds it
PEAK_OF_DTYPE = {
    "fp32": "fp32",
    "tf32": "tf32",
    "bf16": "bf16",
    "fp16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "mxfp8": "fp8",
    "int8": "int8",
    "nvfp4": "fp4",
    "mxfp4": "fp4",
}


@dataclass(frozen=True)
class DramSpec:
    """A family of DRAM: data pins of one stack, chip or channel, the rates of a pin, energy of an access."""

    key: str
    name: str
    unit: str
    data_pins: Quantity
    pin_rate_min_bytes_per_s: Quantity
    pin_rate_max_bytes_per_s: Quantity
    energy_j_per_byte: Quantity


@dataclass(frozen=True)
class MemorySpec:
    """A memory of a device: capacity as the driver reports it, bandwidth, and the DRAM that it is built of.

    `n_units` counts the family's units (stacks of HBM, chips of GDDR, channels of DDR and LPDDR).
    """

    key: str
    name: str
    technology: str
    capacity_bytes: Quantity
    bandwidth_bytes_per_s: Quantity
    dram: DramSpec | None = None
    n_units: Quantity | None = None
    pin_rate_bytes_per_s: Quantity | None = None

    @property
    def energy_j_per_byte(self) -> Quantity | None:
        """Energy of moving a byte to or from the DRAM, where the family is known."""
        return self.dram.energy_j_per_byte if self.dram else None


@dataclass(frozen=True)
class DeviceSpec:
    """One accelerator as its vendor sells it. Peaks and memory are those of its digital unit."""

    key: str
    name: str
    vendor: str
    architecture: str
    n_sm: Quantity
    clock_hz: Quantity
    l2_bytes: Quantity
    peak_flop_per_s: Mapping[str, Quantity]
    memory: MemorySpec
    tdp_w: Quantity
    idle_w: Quantity | None = None
    aliases: tuple[str, ...] = ()
    engine: EngineSpec | None = None
    memory_side_cache_bytes: Quantity | None = None

    def supports(self, dtype: str) -> bool:
        """Whether the device has a matrix unit for this compute dtype."""
        return PEAK_OF_DTYPE.get(dtype, dtype) in self.peak_flop_per_s

    def skips_zeros(self, pattern: str) -> bool:
        """Whether an engine of the device saves anything where weights are zero in this pattern."""
        return self.engine is not None and pattern in self.engine.sparsity

    def peak(self, dtype: str) -> float:
        """Dense peak in FLOP/s for a compute dtype.

        Raises:
            InputError: the device has no matrix unit for it.
        """
        entry = PEAK_OF_DTYPE.get(dtype, dtype)
        if entry not in self.peak_flop_per_s:
            raise InputError(
                Problem(
                    path=f"{self.key}.peak_flop_per_s",
                    requirement=f"compute dtype must be one of {', '.join(sorted(self.peak_flop_per_s))}",
                    given=dtype,
                    suggestion=nearest(entry, self.peak_flop_per_s),
                )
            )
        return self.peak_flop_per_s[entry].value


@dataclass(frozen=True)
class LinkSpec:
    """A link between two endpoints: bandwidth per device and direction, latency of an empty message."""

    key: str
    name: str
    technology: str
    bandwidth_bytes_per_s: Quantity
    latency_s: Quantity


@dataclass(frozen=True)
class HostSpec:
    """The processors of a node: cores and channels of one socket, bandwidth and peak of all sockets."""

    key: str
    name: str
    n_sockets: Quantity
    n_cores: Quantity
    clock_hz: Quantity
    dram: DramSpec
    n_channels: Quantity
    pin_rate_bytes_per_s: Quantity
    memory_bandwidth_bytes_per_s: Quantity
    bf16_flop_per_cycle: Quantity | None = None
    bf16_peak_flop_per_s: Quantity | None = None
    tdp_w: Quantity | None = None


@dataclass(frozen=True)
class DriveSpec:
    """An NVMe drive: sequential bandwidths, random operations of 4 KiB a second, latency of one read."""

    key: str
    name: str
    read_bytes_per_s: Quantity
    write_bytes_per_s: Quantity | None = None
    random_reads_per_s: Quantity | None = None
    random_writes_per_s: Quantity | None = None
    read_latency_s: Quantity | None = None
    max_power_w: Quantity | None = None


@dataclass(frozen=True)
class ExpanderSpec:
    """Memory behind CXL (a type-3 device): the DRAM that it drives, its link, what a host sees of it.

    `idle_latency_s` is that of a load by a core of the host; `bandwidth_bytes_per_s` is what loaded reads,
    or the mix that its note says, were seen to reach.
    """

    key: str
    name: str
    controller: str
    dram: DramSpec
    n_channels: Quantity
    pin_rate_bytes_per_s: Quantity
    link: LinkSpec
    bandwidth_bytes_per_s: Quantity
    idle_latency_s: Quantity | None = None
    capacity_bytes: Quantity | None = None
    controller_power_w: Quantity | None = None


@dataclass(frozen=True)
class GroupLink:
    """What a group of a size reaches: bus bandwidth of a large all-reduce, latency of a small one."""

    bandwidth_bytes_per_s: Quantity
    latency_s: Quantity


@dataclass(frozen=True)
class NodeSpec:
    """A server: identical devices, the fabric between them, and what connects it to the world.

    Where `scale_up_by_group` is not empty, it says better than `scale_up` what a group of devices reaches.
    With `has_unified_memory` device and host share one memory: `host_memory_bytes` is then the device's own.
    """

    key: str
    name: str
    device_key: str
    n_devices: Quantity
    scale_up: LinkSpec
    n_scale_up_devices: Quantity
    host_link: LinkSpec
    nic: LinkSpec
    nics_per_device: Quantity
    host_memory_bytes: Quantity
    host_power_w: Quantity | None = None
    host: HostSpec | None = None
    drive: DriveSpec | None = None
    expander: ExpanderSpec | None = None
    n_expanders: Quantity | None = None
    has_unified_memory: bool = False
    scale_up_by_group: Mapping[int, GroupLink] = field(default_factory=dict)

    @property
    def host_memory_bandwidth_bytes_per_s(self) -> Quantity | None:
        """Peak of all sockets of the host, where it is described."""
        return self.host.memory_bandwidth_bytes_per_s if self.host else None

    @property
    def host_bf16_peak_flop_per_s(self) -> Quantity | None:
        """Dense peak of all sockets of the host, where it is described."""
        return self.host.bf16_peak_flop_per_s if self.host else None

    @property
    def storage_bandwidth_bytes_per_s(self) -> Quantity | None:
        """Sequential reads of one local drive, where it is described."""
        return self.drive.read_bytes_per_s if self.drive else None

    def scale_up_of(self, n_ranks: int) -> GroupLink:
        """Bandwidth and latency of the scale-up fabric among this many devices.

        Of the smallest described group that holds them, or of the largest one; where no group is described,
        of the link.
        """
        groups = self.scale_up_by_group
        if not groups:
            return GroupLink(self.scale_up.bandwidth_bytes_per_s, self.scale_up.latency_s)
        return groups[min((size for size in groups if size >= n_ranks), default=max(groups))]


@dataclass(frozen=True)
class ClusterSpec:
    """Identical nodes on one scale-out fabric."""

    key: str
    name: str
    node_key: str
    max_nodes: Quantity
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class PriceQuote:
    """What one market asked for a device-hour of a system in a month (YYYY-MM)."""

    system_key: str
    market: str
    bound: str
    as_of: str
    price_usd_per_hour: Quantity


@dataclass(frozen=True)
class SystemSpec:
    """What a deployment names: a device in its node in its cluster, with the hash of every file behind it."""

    key: str
    device: DeviceSpec
    node: NodeSpec
    cluster: ClusterSpec
    content_hash: str
    files: tuple[str, ...] = field(default=(), compare=False)

    @property
    def devices_per_node(self) -> int:
        """Devices of one node."""
        return int(self.node.n_devices.value)

    @property
    def scale_up_devices(self) -> int:
        """Devices that the scale-up fabric joins: those of a node, or of a whole rack."""
        return int(self.node.n_scale_up_devices.value)

    def link_bandwidth_bytes_per_s(self, n_ranks: int) -> float:
        """Per device and direction: the scale-up fabric as far as it reaches, the NICs beyond it."""
        if n_ranks <= self.scale_up_devices:
            return self.node.scale_up_of(n_ranks).bandwidth_bytes_per_s.value
        return self.node.nic.bandwidth_bytes_per_s.value * self.node.nics_per_device.value
