"""Checks of claims about matrix engines that a device file describes: what a whole step gains from one.

Every figure is that of a simulated step, with the digital unit, the memory, the conversions and the reloading
of weights in it.
"""

from typing import Annotated, Literal

from pydantic import Field

from hardware_specs.library import load_system
from hardware_specs.records.evidence import Estimate, Grade
from reports.audit_checks import BaseCheck, Finding, Ruling, Stack
from reports.formatting import figure
from simulator.costs.energy import power_model
from simulator.scenario.model import Deployment
from simulator.step_forecast import StepForecast, forecast_step


class _EngineCheck(BaseCheck):
    """Which model runs where, and in which step."""

    model: str
    system: str
    precision: str
    gpus: int = Field(1, ge=1)
    batch: int = Field(1, ge=1)
    length: int = Field(2048, ge=1)
    stack: Stack = "vllm"

    def _step(
        self, phase: str = "decode", *, system: str = "", precision: str = "", pruning: str = ""
    ) -> StepForecast:
        deployment = Deployment(
            model=self.model,
            system=system or self.system,
            gpus=self.gpus,
            tp=self.gpus,
            precision=precision or self.precision,
            pruning=pruning,
            stack=self.stack,
        )
        return forecast_step(deployment, phase, self.batch, self.length)

    def _command(self, more: str = "") -> str:
        return (
            f"silicast step --model {self.model} --system {self.system} --tp {self.gpus} --precision "
            f"{self.precision} --stack {self.stack} --batch {self.batch} --length {self.length}{more}"
        )


class EngineEnergyCheck(_EngineCheck):
    """Does the engine save this share of the energy of a step, beside a device without it?"""

    name: Literal["engine_energy"]
    baseline: str = Field(description="system without the engine")
    baseline_precision: str
    phases: Annotated[tuple[Literal["decode", "prefill"], ...], Field(min_length=1)]
    claimed_saving: float = Field(gt=0, lt=1)

    def run(self) -> Finding:
        """Contradicted where no phase saves as much, even at the low end of the engine's energy."""
        savings = {phase: self._saving(phase) for phase in self.phases}
        best = max(savings.values(), key=lambda saving: saving.value)
        reached = best.high >= self.claimed_saving
        told = "; ".join(
            f"{phase} takes {figure(1 - saving.value, 3)} times the energy of {self.baseline}, "
            f"{self._arithmetic(phase):.1%} of which is arithmetic"
            for phase, saving in savings.items()
        )
        return Finding(
            ruling=Ruling.PLAUSIBLE if reached else Ruling.CONTRADICTED,
            reason=f"{self.batch} x {self.length} tokens on {self.system}: {told}",
            run=self._command(),
            claimed=f"{self.claimed_saving:.0%} less energy",
            predicted=best,
            factor=None if reached else (1 - best.value) / (1 - self.claimed_saving),
            binding="" if reached else "weights through converters, memory and active power",
        )

    def _saving(self, phase: str) -> Estimate:
        before = self._step(phase, system=self.baseline, precision=self.baseline_precision).energy_j.value
        after = self._step(phase).energy_j
        return Estimate(
            1 - after.value / before, 1 - after.high / before, 1 - after.low / before, "1", Grade.D
        )

    def _arithmetic(self, phase: str) -> float:
        """Share of the baseline's energy that arithmetic takes: no engine can save more by being frugal."""
        step = self._step(phase, system=self.baseline, precision=self.baseline_precision)
        per_flop = power_model(load_system(self.baseline).device).joules_per_flop
        return min(per_flop * step.work.flop * self.gpus / step.energy_j.value, 1.0)


class EngineEfficiencyCheck(_EngineCheck):
    """Does the efficiency that is published of an engine hold for a decode step of a model?"""

    name: Literal["engine_efficiency"]
    claimed_flop_per_j: float = Field(gt=0)

    def run(self) -> Finding:
        """Operations of the step over its energy; contradicted outside of the interval."""
        step = self._step()
        flop = step.work.flop * self.gpus
        energy = step.energy_j
        reached = Estimate(
            flop / energy.value / 1e12, flop / energy.high / 1e12, flop / energy.low / 1e12, "TOP/J", Grade.D
        )
        claimed = self.claimed_flop_per_j / 1e12
        holds = reached.high >= claimed
        return Finding(
            ruling=Ruling.PLAUSIBLE if holds else Ruling.CONTRADICTED,
            reason=f"a decode step of {self.model} does {figure(reached.value, 3)} TOP/J on {self.system}: "
            f"{figure(energy.value, 3)} J with the digital unit, the memory and the conversions",
            run=self._command(),
            claimed=f"{claimed:g} TOP/s/W",
            predicted=reached,
            factor=None if holds else claimed / reached.value,
            binding="" if holds else "active power and memory beside the engine",
        )


class EngineGainCheck(_EngineCheck):
    """Does a sparse engine make a decode step so many times faster at a share of zeros that costs nothing?"""

    name: Literal["engine_gain"]
    fractions: Annotated[tuple[float, ...], Field(min_length=1)]
    published: float = Field(gt=0, lt=1, description="largest share of zeros published at negligible loss")
    claimed_gain: float = Field(gt=1)

    def run(self) -> Finding:
        """The largest share up to the published one decides; the others are told."""
        dense = self._step().latency.value
        gains = {zeros: dense / self._step(pruning=f"{zeros:g}").latency.value for zeros in self.fractions}
        usable = {zeros: gain for zeros, gain in gains.items() if zeros <= self.published}
        best = max(usable.values(), default=1.0)
        told = "; ".join(f"{zeros:.0%} zeros {figure(gain, 3)}x" for zeros, gain in gains.items())
        reached = best >= self.claimed_gain
        return Finding(
            ruling=Ruling.PLAUSIBLE if reached else Ruling.CONTRADICTED,
            reason=f"decode step of {self.model} on {self.gpus} x {self.system}: {told}; large models are "
            f"published with up to {self.published:.0%} zeros at negligible loss",
            run=self._command(f" --pruning {max(self.fractions):g}"),
            claimed=f"{self.claimed_gain:g}x",
            factor=None if reached else self.claimed_gain / best,
            binding="" if reached else "non-zero weights, their index and what is not a product of weights",
        )


EngineCheck = EngineEnergyCheck | EngineEfficiencyCheck | EngineGainCheck
