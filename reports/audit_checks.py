"""The checks that claim files name: each is a frozen set of parameters and a `run` that returns a `Finding`.

Checks call public functions of the simulator and the libraries only, so that a claim is tested by what a user
would run. A finding says how far off a figure is and which limit binds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hardware_specs.library import load_system
from hardware_specs.parts import DeviceSpec
from hardware_specs.records.errors import DoesNotFitError
from hardware_specs.records.evidence import Estimate, Grade
from model_graphs.configs import resolve_model
from model_graphs.totals import parameter_counts
from reports.formatting import decimal, percent
from simulator.costs.library import KernelLibrary
from simulator.forecast import MemoryFit
from simulator.prepared import prepare
from simulator.scenario.model import Deployment

Stack = Literal["vllm", "sglang", "trtllm"]


class Ruling(StrEnum):
    """What a run, a bound or a citation says about a figure."""

    SUPPORTED = "supported"
    PLAUSIBLE = "plausible"
    CONTRADICTED = "contradicted"
    NOT_TESTABLE = "not testable"


@dataclass(frozen=True)
class Finding:
    """A ruling with its reason. `factor` is how far the figure is off, `binding` the limit that stops it."""

    ruling: Ruling
    reason: str
    run: str
    claimed: str = ""
    predicted: Estimate | None = None
    factor: float | None = None
    binding: str = ""


class BaseCheck(BaseModel):
    """Parameters of a check, as a claim file states them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MemoryFitCheck(BaseCheck):
    """Does each replica of `gpus` devices of the first system hold the model at any of the precisions?"""

    name: Literal["memory_fit"]
    model: str
    systems: Annotated[tuple[str, ...], Field(min_length=1)]
    gpus: int = Field(ge=1, description="devices of a replica")
    replicas: int = Field(1, ge=1)
    precisions: Annotated[tuple[str, ...], Field(min_length=1)]
    stack: Stack = "vllm"

    def run(self) -> Finding:
        """Fit on the first system decides, the others are shown; the closest precision gives the factor."""
        outcomes = {system: self._outcomes(system) for system in self.systems}
        decisive = outcomes[self.systems[0]]
        fits = any(isinstance(outcome, MemoryFit) for outcome in decisive.values())
        short = [outcome for outcome in decisive.values() if isinstance(outcome, DoesNotFitError)]
        closest = min(short, key=lambda one: one.needed_bytes / one.available_bytes) if short else None
        return Finding(
            ruling=Ruling.SUPPORTED if fits else Ruling.CONTRADICTED,
            reason=f"{self.model}: {'. '.join(self._sentences(outcomes))}",
            run="; ".join(self._command(self.systems[0], precision) for precision in self.precisions),
            claimed=f"{self.replicas} x " * (self.replicas > 1) + f"{self.gpus} x {self.systems[0]}",
            factor=None if fits or closest is None else closest.needed_bytes / closest.available_bytes,
            binding="" if fits else f"memory of one {load_system(self.systems[0]).device.name}",
        )

    def _deployment(self, system: str, precision: str) -> Deployment:
        devices = self.replicas * self.gpus
        return Deployment(
            model=self.model, system=system, gpus=devices, tp=self.gpus, precision=precision, stack=self.stack
        )

    def _outcomes(self, system: str) -> dict[str, MemoryFit | DoesNotFitError]:
        return {one: _fit(self._deployment(system, one)) for one in self.precisions}

    def _sentences(self, outcomes: dict[str, dict[str, MemoryFit | DoesNotFitError]]) -> Iterator[str]:
        for system, by_precision in outcomes.items():
            for precision, outcome in by_precision.items():
                yield f"{precision} on {self.gpus} x {system} {_told(outcome)}"

    def _command(self, system: str, precision: str) -> str:
        made = self._deployment(system, precision)
        return (
            f"silicast simulate --model {self.model} --system {system} --gpus {made.gpus} --tp {made.tp} "
            f"--precision {precision} --stack {self.stack}"
        )


class PublishedConfigCheck(BaseCheck):
    """Are these figures of a model's configuration those of the published one, and what would they cost?"""

    name: Literal["published_config"]
    model: str
    published: str
    system: str
    precision: str
    fields: Annotated[tuple[str, ...], Field(min_length=1)]

    def run(self) -> Finding:
        """Every field must agree; the largest ratio is the factor."""
        stated, true = resolve_model(self.model).config, resolve_model(self.published).config
        pairs = {field: (getattr(stated, field), getattr(true, field)) for field in self.fields}
        ratios = {field: max(a / b, b / a) for field, (a, b) in pairs.items()}
        farthest = max(ratios, key=ratios.__getitem__)
        agrees = ratios[farthest] == 1.0
        told = (f"{field} {a:,} against {b:,} published" for field, (a, b) in pairs.items())
        return Finding(
            ruling=Ruling.SUPPORTED if agrees else Ruling.CONTRADICTED,
            reason=f"{'; '.join(told)}. {self._cost()}",
            run=f"silicast graph {self.model}; silicast graph {self.published}",
            claimed=", ".join(f"{field} {a:,}" for field, (a, _) in pairs.items()),
            factor=None if agrees else ratios[farthest],
            binding="" if agrees else f"the published configuration ({farthest})",
        )

    def _cost(self) -> str:
        """What the stated model would need beside the published one, assumed figures included."""
        told = []
        for model in (self.model, self.published):
            counts = parameter_counts(resolve_model(model))
            held_by = narrowest_fit(model, self.system, self.precision, "vllm")
            told.append(
                f"{model} has {decimal(counts.total, '')} parameters, {decimal(counts.active, '')} of them "
                f"active, and needs {held_by}"
            )
        return "; ".join(told)


class PublishedRangeCheck(BaseCheck):
    """Does a figure of a described device lie among those of the published devices named?"""

    name: Literal["published_range"]
    system: str
    figure: Literal["memory_bandwidth", "stack_bandwidth", "dense_fp16_peak"]
    published: Annotated[tuple[str, ...], Field(min_length=1)]

    def run(self) -> Finding:
        """Inside the published range is plausible, outside contradicted by the factor to its nearer end."""
        read, unit = _DEVICE_FIGURES[self.figure]
        stated = _DEVICE_FIGURES[self.figure.replace("stack", "memory")][0](load_system(self.system).device)
        values = {key: read(load_system(key).device) for key in self.published}
        low, high = min(values.values()), max(values.values())
        nearest_value = min(values.values(), key=lambda value: max(value / stated, stated / value))
        inside = low <= stated <= high
        listed = ", ".join(f"{key} {decimal(value, unit)}" for key, value in values.items())
        what = self.figure.replace("_", " ")
        return Finding(
            ruling=Ruling.PLAUSIBLE if inside else Ruling.CONTRADICTED,
            reason=f"{decimal(stated, unit)} against a published {what} of {listed}",
            run=f"silicast systems show {self.system} {' '.join(self.published)}",
            claimed=decimal(stated, unit),
            predicted=Estimate(nearest_value, low, high, unit, Grade.D),
            factor=None if inside else max(stated / high, low / stated),
            binding="" if inside else f"published {what}",
        )


class CollectiveCheck(BaseCheck):
    """Does a collective reach this fraction of the link's bandwidth at any of these message sizes?"""

    name: Literal["collective_bandwidth"]
    op: Literal["all_reduce"]
    systems: Annotated[tuple[str, ...], Field(min_length=1)]
    n_ranks: int = Field(ge=2)
    fraction: float = Field(gt=0)
    message_bytes: Annotated[tuple[float, ...], Field(min_length=1)]
    stack: Stack = "vllm"

    def run(self) -> Finding:
        """The first system decides; its best message size is the one that counts."""
        reached = {system: self._reached(system) for system in self.systems}
        best, size = reached[self.systems[0]]
        ruling = self._ruling(best)
        told = "; ".join(f"{system} {_percent(one)} at {_size(at)}" for system, (one, at) in reached.items())
        return Finding(
            ruling=ruling,
            reason=f"bus bandwidth of an {self.op} over {self.n_ranks} ranks as a share of the link: {told}",
            run=f"KernelLibrary(load_system({self.systems[0]!r}), {self.stack!r})"
            f".collective({self.op!r}, {self.n_ranks}, {size:.0f})",
            claimed=f"{self.fraction:.0%}",
            predicted=best,
            factor=self.fraction / best.value if ruling is Ruling.CONTRADICTED else None,
            binding=""
            if ruling is Ruling.SUPPORTED
            else "the collective's own efficiency on the scale-up fabric",
        )

    def _reached(self, system_key: str) -> tuple[Estimate, float]:
        """The largest share of the link that a message size reaches, and that size."""
        system = load_system(system_key)
        sizes = np.asarray(self.message_bytes)
        latency = KernelLibrary(system, self.stack).collective(self.op, self.n_ranks, sizes)
        moved = (
            2 * (self.n_ranks - 1) / self.n_ranks * sizes / system.link_bandwidth_bytes_per_s(self.n_ranks)
        )
        shares = moved / latency.latency_s
        at = int(np.argmax(shares))
        low, high = moved[at] / latency.high_s[at], moved[at] / latency.low_s[at]
        return Estimate(float(shares[at]), float(low), float(high), "1", latency.grade), float(sizes[at])

    def _ruling(self, reached: Estimate) -> Ruling:
        if reached.low >= self.fraction:
            return Ruling.SUPPORTED
        return Ruling.PLAUSIBLE if reached.high >= self.fraction else Ruling.CONTRADICTED


class NotTestableCheck(BaseCheck):
    """Nothing to run yet: says what would be needed."""

    name: Literal["not_testable"]
    needs: str

    def run(self) -> Finding:
        """What is missing."""
        return Finding(Ruling.NOT_TESTABLE, f"would need {self.needs}", run="none")


def narrowest_fit(model: str, system: str, precision: str, stack: Stack) -> str:
    """The narrowest tensor-parallel replica that holds the model, in words."""
    alone = Deployment(model=model, system=system, gpus=1, tp=1, precision=precision, stack=stack)
    outcome = _fit(alone)
    if isinstance(outcome, MemoryFit):
        return f"1 x {system}"
    return outcome.nearest_fit or f"no tensor-parallel replica of {system}"


Check = MemoryFitCheck | PublishedConfigCheck | PublishedRangeCheck | CollectiveCheck | NotTestableCheck


def _fit(deployment: Deployment) -> MemoryFit | DoesNotFitError:
    try:
        return prepare(deployment).memory
    except DoesNotFitError as error:
        return error


def _told(outcome: MemoryFit | DoesNotFitError) -> str:
    if isinstance(outcome, MemoryFit):
        return f"fits, with room for {outcome.kv_capacity_tokens:,} tokens of cache"
    needed, usable = outcome.needed_bytes / 1e9, outcome.available_bytes / 1e9
    hint = f"; nearest fit {outcome.nearest_fit}" if outcome.nearest_fit else ""
    return f"needs {needed:,.0f} GB a device of {usable:,.0f} GB usable{hint}"


def _memory_bandwidth(device: DeviceSpec) -> float:
    return device.memory.bandwidth_bytes_per_s.value


def _stack_bandwidth(device: DeviceSpec) -> float:
    assert device.memory.n_units is not None
    return device.memory.bandwidth_bytes_per_s.value / device.memory.n_units.value


def _fp16_peak(device: DeviceSpec) -> float:
    return device.peak("fp16")


_DEVICE_FIGURES: dict[str, tuple[Callable[[DeviceSpec], float], str]] = {
    "memory_bandwidth": (_memory_bandwidth, "B/s"),
    "stack_bandwidth": (_stack_bandwidth, "B/s"),
    "dense_fp16_peak": (_fp16_peak, "FLOP/s"),
}


def _percent(estimate: Estimate) -> str:
    low, high = percent(estimate.low, 0), percent(estimate.high, 0)
    return f"{percent(estimate.value, 0)} ({low} to {high}, grade {estimate.grade})"


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"
