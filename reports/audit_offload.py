"""The check of claims that a model moves from CPU to GPU gradually, layer by layer."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from model_graphs.placement import read_plan
from reports.audit_checks import Finding, Ruling, Stack
from reports.formatting import figure, gib
from simulator.planning.offload import Offload, OffloadStep
from simulator.scenario.model import Deployment


class GradualOffloadCheck(BaseModel):
    """Do layers that move to one GPU, one after the other, each make a decode step faster?

    `plans` are other ways to use the GPU, told beside the curve.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["gradual_offload"]
    model: str
    system: str
    precision: str
    context: int = Field(4096, ge=1, description="tokens of the one sequence that decodes")
    plans: tuple[str, ...] = ()
    stack: Stack = "vllm"

    def run(self) -> Finding:
        """Supported where at least one layer fits on the GPU and every further one makes the step faster."""
        deployment = Deployment(
            model=self.model, system=self.system, gpus=1, tp=1, precision=self.precision, stack=self.stack
        )
        offload = Offload(deployment, "decode", 1, self.context)
        curve = offload.curve()
        fitting = [step for step in curve if step.lack is None]
        faster = all(b.latency.value < a.latency.value for a, b in pairwise(curve))
        gradual = faster and bool(fitting) and fitting[-1].n_gpu_layers > 0
        sentences = [_curve_told(curve), _memory_told(curve)]
        sentences += [_plan_told(offload, plan) for plan in self.plans]
        return Finding(
            ruling=Ruling.SUPPORTED if gradual else Ruling.CONTRADICTED,
            reason=". ".join(sentences),
            run=f"silicast offload --model {self.model} --system {self.system} --precision {self.precision} "
            f"--stack {self.stack} --length {self.context}",
            claimed="layer by layer",
            factor=None if gradual else _lack_factor(curve),
            binding="" if curve[-1].lack is None else f"memory of one {offload.system.device.name}",
        )


def _plan_told(offload: Offload, plan: str) -> str:
    step = offload.step(read_plan(plan))
    return f"{plan} takes {figure(step.latency.value, 3)} ms"


def _curve_told(curve: Sequence[OffloadStep]) -> str:
    told = (f"{step.n_gpu_layers} layers {figure(step.latency.value, 3)} ms" for step in curve)
    return f"a decode step with more and more layers on the GPU, the others on its host: {', '.join(told)}"


def _memory_told(curve: Sequence[OffloadStep]) -> str:
    fitting = [step for step in curve if step.lack is None]
    lack = next((step.lack for step in curve if step.lack is not None), None)
    if not fitting or lack is None:
        return "all of them fit" if lack is None else str(lack)
    needed, available = gib(lack.needed_bytes), gib(lack.available_bytes)
    return f"{fitting[-1].n_gpu_layers} layers fit; one more would need {needed} of {available} usable"


def _lack_factor(curve: Sequence[OffloadStep]) -> float | None:
    lack = curve[-1].lack
    return None if lack is None else lack.needed_bytes / lack.available_bytes
