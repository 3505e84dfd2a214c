"""Checks of claims about accuracy, precision and sparsity: intervals, the shipped study, transformed graphs.

What rests on the study says so: it is measured on a proxy at up to 2,048 bytes of context, and a claim about
more than that is ruled on only as far as the proxy goes.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from hardware_specs.library import load_system
from hardware_specs.records.evidence import Estimate, Grade
from model_graphs.configs import resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES
from model_graphs.graph import OperatorGraph
from model_graphs.graph_io import load_graph
from model_graphs.switching import both_forms_bytes, switch_graph
from model_graphs.totals import DEFAULT_POINTS, graph_work, weight_bytes_per_rank
from model_graphs.transform_pass import apply_plan
from model_graphs.transforms import pruned_plan, resolve_plan
from reports.accuracy_study import LABEL, committed_study, mean_and_spread, scheme_line
from reports.audit_checks import BaseCheck, Finding, Ruling
from reports.formatting import decimal
from reports.proportion_tables import answer
from simulator.costs.library import KernelLibrary
from simulator.measured.proportions import newcombe_interval

SHOW = "silicast accuracy show"


class ProportionCheck(BaseCheck):
    """Does a test of so many questions tell two accuracies apart?"""

    name: Literal["proportions"]
    first: float = Field(gt=0, lt=1)
    second: float = Field(gt=0, lt=1)
    n: int = Field(ge=1, description="questions that each was asked")
    confidence: float = Field(0.95, gt=0, lt=1)

    def run(self) -> Finding:
        """An interval of the difference without zero supports it; one with zero leaves it open."""
        found = newcombe_interval(self.second, self.n, self.first, self.n, self.confidence)
        return Finding(
            ruling=Ruling.PLAUSIBLE if found.holds(0.0) else Ruling.SUPPORTED,
            reason=f"{self.confidence:.0%} on {self.n:,} questions: "
            f"{answer((self.first, self.second), self.n, self.confidence)}",
            run=f"silicast accuracy proportion {self.first:g} {self.second:g} --n {self.n}",
            claimed=f"{self.first:.1%} and {self.second:.1%}",
            predicted=Estimate(found.value, found.low, found.high, "1", Grade.A),
        )


class DriftCheck(BaseCheck):
    """Does reduced precision cost more at long context, by the percentage claimed?"""

    name: Literal["proxy_drift"]
    percent: float = Field(description="change claimed beyond the context named, %")
    context_tokens: int = Field(ge=1, description="where the claim says that the drift begins")

    def run(self) -> Finding:
        """Inside the proxy's interval is plausible; outside it the proxy's context is too short to rule."""
        effect = committed_study()["effects"]["drift_percent_of_loss"]
        holds = effect["low"] <= self.percent <= effect["high"]
        reaches = committed_study()["context"]["edges"][-1]
        return Finding(
            ruling=Ruling.PLAUSIBLE if holds else Ruling.NOT_TESTABLE,
            reason=f"under FP8 the loss changes by {_interval(effect)}% of itself more beyond 1,024 bytes of "
            f"context than below 256, over {effect['passages']} passages ({LABEL}); the proxy reaches "
            f"{reaches:,} bytes, so a ruling beyond {self.context_tokens:,} tokens would need the model's "
            "weights and texts that long",
            run=SHOW,
            claimed=f"{self.percent:g}%",
            predicted=Estimate(effect["value"], effect["low"], effect["high"], "%", Grade.C),
        )


class CompensationCheck(BaseCheck):
    """Does compensated accumulation take away error at long context?"""

    name: Literal["proxy_compensation"]

    def run(self) -> Finding:
        """Supported where both intervals are above zero: of the sums alone, and beside FP8 products."""
        effects = committed_study()["effects"]
        alone, under_fp8 = effects["compensation"], effects["compensation_under_fp8"]
        return Finding(
            ruling=Ruling.SUPPORTED if min(alone["low"], under_fp8["low"]) > 0 else Ruling.PLAUSIBLE,
            reason="beyond 1,024 bytes of context, compensating sums in bf16 takes away "
            f"{_interval(alone)} nats a byte of divergence, and {_interval(under_fp8)} where products are "
            f"FP8 as well ({LABEL}); sums in fp32, which matrix units have, need no compensation",
            run=SHOW,
            claimed="errors are compensated",
            predicted=Estimate(alone["value"], alone["low"], alone["high"], "nats a byte", Grade.C),
        )


class PruningCheck(BaseCheck):
    """Do weights pruned to these fractions cost no more accuracy than a scheme that is deployed?"""

    name: Literal["proxy_pruning"]
    model: str
    fractions: Annotated[tuple[float, ...], Field(min_length=1)]
    published: float = Field(ge=0, lt=1, description="largest fraction published at negligible loss")
    baseline: str = Field("int4", description="plan whose divergence is taken to be acceptable")

    def run(self) -> Finding:
        """The largest fraction decides: up to the published one it is plausible, beyond it the proxy rules.

        A model as small as the proxy bears less pruning than a large one, so it does not rule below.
        """
        accepted = _divergence(self.baseline)
        costs = {one: _divergence(pruned_plan(one).name) for one in self.fractions}
        worst = costs[max(costs)]
        told = (
            f"{fraction:.0%}: divergence {cost:.4f}, {self._stored(fraction):.0%} of the bytes"
            for fraction, cost in costs.items()
        )
        holds = worst <= accepted or max(costs) <= self.published
        return Finding(
            ruling=Ruling.PLAUSIBLE if holds else Ruling.CONTRADICTED,
            reason=f"pruned by magnitude without training anew, {'; '.join(told)}; {self.baseline} has "
            f"{accepted:.4f} nats a byte ({LABEL}). Large models are published with up to "
            f"{self.published:.0%} at negligible loss",
            run=f"{SHOW}; silicast graph {self.model} --sparsity-threshold {max(costs):g}",
            claimed=f"{min(costs):.0%} to {max(costs):.0%} of weights zero",
            factor=None if holds else worst / accepted,
            binding="" if holds else f"accuracy (divergence beside {self.baseline})",
        )

    def _stored(self, fraction: float) -> float:
        """Bytes of the pruned model over those in bf16."""
        graph = load_graph(resolve_model(self.model), "decode")
        pruned = apply_plan(graph, pruned_plan(fraction), COMPUTE_DTYPES)
        return weight_bytes_per_rank(pruned) / weight_bytes_per_rank(graph)


class ZeroSkippingCheck(BaseCheck):
    """Can skipping zero weights give this gain?"""

    name: Literal["zero_skipping"]
    gain: float = Field(gt=1, description="claimed speed over that with all weights")
    fractions: Annotated[tuple[float, ...], Field(min_length=1)]

    def run(self) -> Finding:
        """Bounds by traffic and by arithmetic of one matrix; a gain between one and the bound can be."""
        bounds = {one: 1 / (1 - one + 1 / 16) for one in self.fractions}
        within = any(self.gain <= bound for bound in bounds.values())
        told = "; ".join(
            f"{fraction:.0%} zeros: at most {bound:.2f}x where reading weights binds and "
            f"{1 / (1 - fraction):.2f}x where multiplying does"
            for fraction, bound in bounds.items()
        )
        needed = 1 - 1 / self.gain + 1 / 16
        return Finding(
            ruling=Ruling.PLAUSIBLE if within else Ruling.CONTRADICTED,
            reason=f"{told} (16-bit weights with one bit of bitmap each); {self.gain:g}x needs at least "
            f"{needed:.0%} zeros and a unit without any loss of its own",
            run=f"silicast graph deepseek-r1 --phase decode --sparsity-threshold {max(self.fractions):g}",
            claimed=f"{self.gain:g}x",
            factor=None if within else self.gain / max(bounds.values()),
            binding="" if within else "weight traffic",
        )


class SwitchCheck(BaseCheck):
    """What do two plans at once, or a switch between them at run time, cost?"""

    name: Literal["precision_switch"]
    model: str
    system: str
    gpus: int = Field(ge=1)
    before: str
    after: str

    def run(self) -> Finding:
        """It can be done: the finding says what it moves, how long that takes, and the cost in accuracy."""
        record, system = resolve_model(self.model), load_system(self.system)
        graph = load_graph(record, "decode")
        before, after = resolve_plan(self.before), resolve_plan(self.after)
        moved = switch_graph(graph, before, after).instances()
        moved_bytes = sum(int(op.weight_bytes) + int(op.activation_write_bytes) for _, _, op in moved)
        priced = KernelLibrary(system, "vllm").bandwidth_bound(moved_bytes / self.gpus, "quantize")
        time_s = Estimate.from_log_half_width(
            float(priced.latency_s), float(priced.log_half_width), "s", priced.grade
        )
        both = both_forms_bytes(graph, before, after)
        published = ", ".join(sorted(set(record.checkpoints.values())))
        return Finding(
            ruling=Ruling.PLAUSIBLE,
            reason=f"turning {before.name} into {after.name} moves {decimal(moved_bytes, 'B')}, "
            f"{time_s.value * 1e3:,.0f} ms on {self.gpus} x {self.system}; both forms at once need "
            f"{decimal(both, 'B')}. Divergence {_divergence(self.before):.4f} under {before.name} and "
            f"{_divergence(self.after):.4f} under {after.name} ({LABEL}). The published checkpoints "
            f"known here are stored in {published}",
            run=f"silicast graph {self.model} --transform {self.after}; {SHOW}",
            claimed=f"{before.name} and {after.name}, switched at run time",
            predicted=time_s,
        )


class TransformTrafficCheck(BaseCheck):
    """What does a transform do to the bytes of a decode step?"""

    name: Literal["transform_traffic"]
    model: str
    plan: str

    def run(self) -> Finding:
        """It runs: the reference implementation under the plan equals this graph operator by operator."""
        graph = load_graph(resolve_model(self.model), "decode")
        changed = apply_plan(graph, resolve_plan(self.plan), COMPUTE_DTYPES)
        before, after = _step_bytes(graph), _step_bytes(changed)
        stored = weight_bytes_per_rank(changed) / weight_bytes_per_rank(graph)
        return Finding(
            ruling=Ruling.SUPPORTED,
            reason=f"{self.plan} runs, and a decode step moves {after / before:.2f} times the bytes of "
            f"weights and activations that bf16 moves (all experts counted), of weights {stored:.2f} times "
            "those stored in bf16",
            run=f"silicast graph {self.model} --phase decode --transform {self.plan}",
        )


AccuracyCheck = (
    ProportionCheck
    | DriftCheck
    | CompensationCheck
    | PruningCheck
    | ZeroSkippingCheck
    | SwitchCheck
    | TransformTrafficCheck
)


def _step_bytes(graph: OperatorGraph) -> int:
    """Bytes of weights and activations that a decode step of one sequence moves."""
    figures = graph_work(graph).at(DEFAULT_POINTS["decode"])
    return sum(figures[f"{name}_bytes"] for name in ("weight", "activation_read", "activation_write"))


def _divergence(plan: str) -> float:
    """Mean divergence over the seeds of the shipped study, nats a byte."""
    return mean_and_spread(scheme_line(committed_study(), plan)["divergence"])[0]


def _interval(effect: Mapping[str, Any]) -> str:
    return f"{effect['value']:.2e} ({effect['low']:.2e} to {effect['high']:.2e})"
