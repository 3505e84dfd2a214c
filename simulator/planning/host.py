"""The host of a node as a device of its own: what its CPU, its link and its drives take for an operator.

First form: the larger of traffic over memory bandwidth and FLOP over peak, at the datasheet's figures of all
sockets. What threads, memory policy and quantised formats cost on a real CPU is not modelled, and no CPU was
measured: the grade is D.
"""

from dataclasses import dataclass

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.quantities import Quantity

_NEEDED = ("host_memory_bandwidth_bytes_per_s", "host_bf16_peak_flop_per_s", "storage_bandwidth_bytes_per_s")


@dataclass(frozen=True)
class Host:
    """A node's CPU, the link to one of its devices, and its drives."""

    memory_bytes: float
    memory_bandwidth_bytes_per_s: float
    peak_flop_per_s: float
    link_bandwidth_bytes_per_s: float
    link_latency_s: float
    storage_bandwidth_bytes_per_s: float

    @classmethod
    def of(cls, system: SystemSpec) -> "Host":
        """The host of the system's node.

        Raises:
            InputError: with every figure that the node's file leaves open, or host and device share a memory.
        """
        node = system.node
        if node.has_unified_memory:
            requirement = "must have a memory of its own before a plan can use the host"
            given = "memory that device and host share"
            raise InputError(Problem(requirement, given, path=f"{node.key}.unified_memory"))
        figures: dict[str, Quantity | None] = {name: getattr(node, name) for name in _NEEDED}
        known = {name: float(figure) for name, figure in figures.items() if figure is not None}
        if len(known) < len(figures):
            requirement = "must be given in the node's file before a plan can use the host"
            missing = (name for name in figures if name not in known)
            raise InputError(*(Problem(requirement, path=f"{node.key}.{name}") for name in missing))
        bandwidth, peak, storage = (known[name] for name in _NEEDED)
        return cls(
            memory_bytes=float(node.host_memory_bytes),
            memory_bandwidth_bytes_per_s=bandwidth,
            peak_flop_per_s=peak,
            link_bandwidth_bytes_per_s=float(node.host_link.bandwidth_bytes_per_s),
            link_latency_s=float(node.host_link.latency_s),
            storage_bandwidth_bytes_per_s=storage,
        )

    def compute_s(self, flop: float, traffic_bytes: float) -> tuple[float, str]:
        """Seconds of an operator on the CPU, and what bounds it."""
        memory_s = traffic_bytes / self.memory_bandwidth_bytes_per_s
        compute_s = flop / self.peak_flop_per_s
        return max(memory_s, compute_s), "compute" if compute_s > memory_s else "memory"

    def copy_s(self, n_bytes: float) -> float:
        """Seconds of a copy between the host's memory and a device's."""
        return self.link_latency_s + n_bytes / self.link_bandwidth_bytes_per_s

    def read_s(self, n_bytes: float) -> float:
        """Seconds of a read from the node's drives."""
        return n_bytes / self.storage_bandwidth_bytes_per_s
