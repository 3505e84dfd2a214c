"""Checks by bounds alone: weights against a memory's size and bandwidth, where no device is described."""

from typing import Literal

from pydantic import Field

from hardware_specs.library import load_system
from model_graphs.configs import resolve_model
from model_graphs.graph import OperatorGraph
from model_graphs.graph_io import load_graph
from model_graphs.precision import apply_precision
from model_graphs.totals import graph_work, stored_weight_bytes
from reports.audit_checks import BaseCheck, Finding, Ruling
from reports.formatting import decimal, figure


class WeightReadCheck(BaseCheck):
    """Can a memory hold the model's weights and deliver them for so many tokens a second, one at a time?

    A token reads every weight that it uses once; of routed experts the chosen ones. `others` are told beside.
    """

    name: Literal["weight_read"]
    model: str
    others: tuple[str, ...] = ()
    precision: str
    memory_bytes: float = Field(gt=0, description="all of the device's memory")
    bandwidth_bytes_per_s: float = Field(gt=0, description="its peak")
    tokens_per_s: float = Field(gt=0)

    def run(self) -> Finding:
        """Contradicted where the weights do not fit, or the bound is below the claim; else plausible."""
        stored, rate = self._bound(self.model)
        fits, fast = stored <= self.memory_bytes, rate >= self.tokens_per_s
        factor = stored / self.memory_bytes if not fits else self.tokens_per_s / rate
        told = "; ".join(self._told(model) for model in (self.model, *self.others))
        return Finding(
            ruling=Ruling.PLAUSIBLE if fits and fast else Ruling.CONTRADICTED,
            reason=f"{decimal(self.memory_bytes, 'B')} at "
            f"{decimal(self.bandwidth_bytes_per_s, 'B/s')}: {told}",
            run=f"silicast graph {self.model} --phase decode --transform {self.precision}",
            claimed=f"{self.tokens_per_s:g} tokens/s",
            factor=None if fits and fast else factor,
            binding="memory size" if not fits else "" if fast else "memory bandwidth",
        )

    def _told(self, model: str) -> str:
        stored, rate = self._bound(model)
        if stored > self.memory_bytes:
            times = figure(stored / self.memory_bytes, 2)
            return f"{model} has {decimal(stored, 'B')} of weights, {times} times that"
        return f"{model} has {decimal(stored, 'B')} and at most {figure(rate, 3)} tokens/s"

    def _bound(self, model: str) -> tuple[int, float]:
        """Stored bytes of weights, and tokens a second at the peak bandwidth."""
        record = resolve_model(model)
        storage = record.storage(self.precision)
        graph = apply_precision(load_graph(record, "decode"), storage, "bf16", {"bf16", self.precision})
        return _weight_bytes(graph, used_alone=False), self.bandwidth_bytes_per_s / _weight_bytes(
            graph, used_alone=True
        )


def _weight_bytes(graph: OperatorGraph, *, used_alone: bool) -> int:
    """Bytes of all weights, or of those that one token uses: chosen experts, one row of the embedding."""
    total = 0
    for block in graph.blocks:
        for operator in block.operators:
            stored = block.repeat * stored_weight_bytes(operator)
            if used_alone and operator.kind == "moe_experts":
                stored = stored * int(operator.attrs["topk"]) // int(operator.attrs["n_experts"])
            elif used_alone and operator.kind == "embedding":
                stored = 0
            total += stored
    return total


class PipelineGainCheck(BaseCheck):
    """Whether four overlapping stages (fetch, decompress, compute, compress) gain so much over a sequence.

    The gain is the sum of the stages over the longest. Fetching and writing back are at the memory's peak,
    computing is at the matrix unit's; nothing is published of decompression, which is taken once as free and
    once, in the claim's favour, as long as the longest of the others.
    """

    name: Literal["pipeline_gain"]
    model: str
    system: str
    precision: str
    batches: tuple[int, ...] = (1, 64, 1024)
    context: int = Field(1024, ge=1)
    claimed_gain: float = Field(gt=1)

    def run(self) -> Finding:
        """Plausible where the favourable gain reaches the claim at some batch; both gains are told."""
        gains = {batch: self._gains(batch) for batch in self.batches}
        free, favourable = (max(gain[i] for gain in gains.values()) for i in (0, 1))
        told = "; ".join(
            f"{batch} sequences {figure(one, 3)} and {figure(two, 3)}" for batch, (one, two) in gains.items()
        )
        reached = favourable >= self.claimed_gain
        return Finding(
            ruling=Ruling.PLAUSIBLE if reached else Ruling.CONTRADICTED,
            reason="sum over longest of the stages of a decode step, without decompression and with one as "
            f"long as the longest: {told}. Without decompression the gain is at most {figure(free, 3)}",
            run=f"silicast graph {self.model} --phase decode; silicast systems show {self.system}",
            claimed=f"{self.claimed_gain:g} times the throughput",
            factor=None if reached else self.claimed_gain / favourable,
            binding="the stage that takes longest",
        )

    def _gains(self, batch: int) -> tuple[float, float]:
        """The gain without decompression, and with one as long as the longest other stage."""
        stages = self._stages_s(batch)
        longest = max(stages)
        return sum(stages) / longest, (sum(stages) + longest) / longest

    def _stages_s(self, batch: int) -> tuple[float, float, float]:
        """Fetch, compute and write-back of a decode step, seconds."""
        device = load_system(self.system).device
        storage = resolve_model(self.model).storage(self.precision)
        graph = apply_precision(load_graph(self.model, "decode"), storage, "bf16", {"bf16", self.precision})
        at = {"B": batch, "S": 1, "T": self.context - 1}
        work = graph_work(graph).at(at)
        rate = device.memory.bandwidth_bytes_per_s.value
        fetched = work["weight_bytes"] + work["cache_read_bytes"]
        return (
            fetched / rate,
            work["causal_flop"] / device.peak("bf16"),
            work["activation_write_bytes"] / rate,
        )


BoundCheck = WeightReadCheck | PipelineGainCheck
