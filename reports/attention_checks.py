"""Checks of claims on long contexts: is a mask made at run time, and how long does a step take."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from hardware_specs.records.evidence import Estimate
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.expressions import Expression, total
from model_graphs.graph import Operator
from model_graphs.graph_io import load_graph
from model_graphs.precision import apply_precision
from reports.audit_checks import BaseCheck, Finding, Ruling, Stack
from reports.formatting import decimal
from simulator.scenario.model import Deployment
from simulator.step_forecast import forecast_step

_ATTENTION = ("mla_attention", "grouped_attention", "index_scores", "topk", "sparse_mla_attention")


class RunTimeMaskCheck(BaseCheck):
    """Does the model choose what a query attends to at run time, as the other one does?

    Contradicted by the factor that a decode step of one sequence reads more of its cache than the other's.
    """

    name: Literal["run_time_mask"]
    model: str
    sparse: str
    context: int = Field(ge=1, description="cached tokens of a sequence")

    def run(self) -> Finding:
        """The published architecture decides; both are told with their closed forms."""
        chooses = any(operator.kind == "topk" for _, operator in _attention(self.model))
        read, bound = (self._at(one, "cache_read_bytes") for one in (self.model, self.sparse))
        return Finding(
            ruling=Ruling.SUPPORTED if chooses else Ruling.CONTRADICTED,
            reason=f"attention of a decode step at {self.context:,} tokens: "
            f"{'; '.join(self._told(one) for one in dict.fromkeys((self.model, self.sparse)))}",
            run=f"silicast graph {self.model} --phase decode; silicast graph {self.sparse} --phase decode",
            factor=None if chooses else read / bound,
            binding="" if chooses else "the published architecture: every query attends to all tokens",
        )

    def _told(self, model: str) -> str:
        flop, cache = (_form(model, field) for field in ("flop", "cache_read_bytes"))
        at = {field: self._at(model, field) for field in ("flop", "cache_read_bytes")}
        return (
            f"{model} {decimal(at['flop'], 'FLOP')} ({flop}) and {decimal(at['cache_read_bytes'], 'B')} "
            f"of cache ({cache})"
        )

    def _at(self, model: str, field: str) -> int:
        return _form(model, field).exact({"B": 1, "T": self.context - 1})


class StepLatencyCheck(BaseCheck):
    """Does one step of `batch` sequences stay within the limit?"""

    name: Literal["step_latency"]
    model: str
    system: str
    gpus: int = Field(ge=1, description="devices of the tensor-parallel replica")
    precision: str
    phase: Literal["prefill", "decode", "encode"]
    batch: int = Field(1, ge=1)
    length: int = Field(ge=1, description="context of a decoding sequence, tokens of a prompt")
    limit_ms: float = Field(gt=0)
    stack: Stack = "sglang"

    def run(self) -> Finding:
        """An interval wholly below the limit supports, one across it makes plausible."""
        step = forecast_step(self._deployment, self.phase, self.batch, self.length)
        ruling = self._ruling(step.latency)
        latency = step.latency if self.limit_ms < 1e3 else step.latency.scaled(1e-3, "s")
        missed = ruling is Ruling.CONTRADICTED
        return Finding(
            ruling=ruling,
            reason=f"{_article(self.phase)} {self.phase} step of {self.model} on {self.gpus} x {self.system} "
            f"at {self.length:,} tokens: {step.explanation}",
            run=self._command,
            claimed=f"within {self.limit_ms:g} ms"
            if self.limit_ms < 1e3
            else f"within {self.limit_ms / 1e3:g} s",
            predicted=latency,
            factor=step.latency.value / self.limit_ms if missed else None,
            binding="the step's own latency" if missed else "",
        )

    def _ruling(self, latency: Estimate) -> Ruling:
        if latency.high <= self.limit_ms:
            return Ruling.SUPPORTED
        return Ruling.PLAUSIBLE if latency.low <= self.limit_ms else Ruling.CONTRADICTED

    @property
    def _deployment(self) -> Deployment:
        return Deployment(
            model=self.model,
            system=self.system,
            gpus=self.gpus,
            tp=self.gpus,
            precision=self.precision,
            stack=self.stack,
        )

    @property
    def _command(self) -> str:
        return (
            f"silicast step --model {self.model} --system {self.system} --gpus {self.gpus} --tp {self.gpus} "
            f"--precision {self.precision} --stack {self.stack} --phase {self.phase} --batch {self.batch} "
            f"--length {self.length}"
        )


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


AttentionCheck = RunTimeMaskCheck | StepLatencyCheck


def _attention(model: str) -> Iterator[tuple[int, Operator]]:
    """Attention of a decode step with how often each operator runs; index keys are cached in fp8."""
    graph = apply_precision(load_graph(model, "decode"), None, "bf16", COMPUTE_DTYPES)
    for block in graph.blocks:
        yield from ((block.repeat, op) for op in block.operators if op.kind in _ATTENTION)


def _form(model: str, field: str) -> Expression:
    return total(getattr(operator, field) * repeat for repeat, operator in _attention(model))
