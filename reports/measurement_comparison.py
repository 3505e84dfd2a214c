"""A measured step of the reference against the prices of its operators on a system, kind by kind.

The reference runs PyTorch's own kernels one after another, where a serving engine runs fused ones: products
are the same work done by the same libraries, small kernels are not. So kinds are shown beside each other and
not one figure alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError, Problem
from model_graphs.configs import resolve_model
from model_graphs.graph import OperatorGraph
from model_graphs.runs.measurement import MeasuredStep
from reports.formatting import figure, percent
from reports.tables import table
from simulator.costs.estimates import KernelEstimate
from simulator.costs.library import KernelLibrary
from simulator.costs.operators import price_operator

if TYPE_CHECKING:
    from reference_impl.measurement.request import MeasurementRequest


@dataclass(frozen=True)
class KindComparison:
    """All calls of one kind: seconds measured and predicted, and how many lie in their own 90% interval."""

    kind: str
    n_calls: int
    measured_s: float
    predicted_s: float
    n_inside: int

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured_s / self.predicted_s


def check_comparable(device: str, dtype: str) -> None:
    """Refuse a measurement that no system's prices are about.

    Raises:
        InputError: with everything that stands in the way.
    """
    needed = (("device", device, "cuda"), ("dtype", dtype, "bf16"))
    problems = [
        Problem(f"must be {wanted} to be compared with a system", given, path=name)
        for name, given, wanted in needed
        if given != wanted
    ]
    if problems:
        raise InputError(*problems)


def measured_graph(request: "MeasurementRequest") -> OperatorGraph:
    """The graph of what a request measures, emitted from the reference at its width and depth."""
    from reference_impl.emission import emit
    from reference_impl.measurement.subject import measured_blueprint

    record = resolve_model(request.model)
    return emit(measured_blueprint(record, request), request.phase, model=record.key)


def compare_with_system(
    step: MeasuredStep, graph: OperatorGraph, system: str, stack: str
) -> tuple[KindComparison, ...]:
    """Every kind of operator, the longest first; `graph` is that of what was measured.

    Raises:
        InputError: the system or the stack is unknown, or the step is not one of the graph.
    """
    prices = _prices(graph, KernelLibrary(load_system(system), stack), point_of(step))
    measured = {span.name: span for span in step.run.spans}
    if prices.keys() != measured.keys():
        strangers = sorted(prices.keys() ^ measured.keys())
        raise InputError(Problem("the step must have the graph's operators", ", ".join(strangers[:3])))
    pairs: dict[str, list[tuple[float, KernelEstimate]]] = defaultdict(list)
    for name, span in measured.items():
        pairs[span.kind].append((span.end_s - span.start_s, prices[name]))
    kinds = (_compared(kind, found) for kind, found in pairs.items())
    return tuple(sorted(kinds, key=lambda one: (-one.measured_s, one.kind)))


def point_of(step: MeasuredStep) -> dict[str, float]:
    """B sequences, S new and T past tokens of each."""
    what = step.subject
    return {"B": float(what.batch), "S": float(what.new_tokens), "T": float(what.past_tokens)}


def _prices(
    graph: OperatorGraph, library: KernelLibrary, point: Mapping[str, float]
) -> dict[str, KernelEstimate]:
    return {
        f"{block.name}.{instance}.{op.name}": price_operator(library, op, point)
        for block, instance, op in graph.instances()
    }


def _compared(kind: str, pairs: list[tuple[float, KernelEstimate]]) -> KindComparison:
    seconds = np.array([measured_s for measured_s, _ in pairs])
    low, high = (np.array([float(getattr(price, end)) for _, price in pairs]) for end in ("low_s", "high_s"))
    return KindComparison(
        kind=kind,
        n_calls=len(pairs),
        measured_s=float(seconds.sum()),
        predicted_s=sum(float(price.latency_s) for _, price in pairs),
        n_inside=int(((low <= seconds) & (seconds <= high)).sum()),
    )


def comparison_table(system: str, kinds: tuple[KindComparison, ...]) -> Group:
    """A line a kind, and one for all."""
    columns = ("kind", ">calls", ">measured us", ">predicted us", ">ratio", ">in 90%")
    title = f"Against the prices of {system}"
    caption = "the reference's kernels are not fused: only products and attention are the work of an engine's"
    return table(title, columns, _rows(kinds), caption=caption)


def _rows(kinds: tuple[KindComparison, ...]) -> Iterator[tuple[str, ...]]:
    everything = KindComparison(
        "all",
        sum(one.n_calls for one in kinds),
        sum(one.measured_s for one in kinds),
        sum(one.predicted_s for one in kinds),
        sum(one.n_inside for one in kinds),
    )
    for one in (*kinds, everything):
        seconds = figure(one.measured_s * 1e6), figure(one.predicted_s * 1e6)
        yield one.kind, str(one.n_calls), *seconds, figure(one.ratio, 3), percent(one.n_inside / one.n_calls)
