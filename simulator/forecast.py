"""One call from a scenario to a forecast: every number with its interval and grade, and what it rests on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from hardware_specs.records.evidence import Estimate
from model_graphs.runs.records import ServingRun
from simulator.scenario.model import Scenario


@dataclass(frozen=True)
class MemoryTerm:
    """One line of the memory fit, bytes per device."""

    name: str
    needed_bytes: float
    note: str = ""


@dataclass(frozen=True)
class MemoryFit:
    """What a device's memory holds: terms, what is usable, and the cache that is left."""

    terms: tuple[MemoryTerm, ...]
    capacity_bytes: float
    usable_bytes: float
    kv_bytes_per_token: float
    kv_capacity_tokens: int
    kv_bytes_per_sequence: float = 0.0

    @property
    def kv_tokens_per_sequence(self) -> int:
        """Tokens of cache that what a sequence keeps beside its tokens would hold."""
        return ceil(self.kv_bytes_per_sequence / self.kv_bytes_per_token)

    @property
    def needed_bytes(self) -> float:
        """Everything but the KV cache."""
        return sum(term.needed_bytes for term in self.terms)


@dataclass(frozen=True)
class Assumption:
    """A choice the forecast made because the input did not state it, or a constant it rests on."""

    what: str
    value: str
    source: str
    kind: str


@dataclass(frozen=True)
class Forecast:
    """The result of `simulate`: metrics by name (`validation.md` metric names), each an Estimate."""

    scenario: Scenario
    metrics: Mapping[str, Estimate]
    memory: MemoryFit
    run: ServingRun
    binding: str
    step_breakdown: Mapping[str, Mapping[str, float]]
    assumptions: tuple[Assumption, ...]
    input_hash: str
    versions: Mapping[str, str] = field(default_factory=dict)
