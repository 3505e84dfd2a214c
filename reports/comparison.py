"""Predicted beside measured: the figures that a scenario carries, each with the forecast of its run."""

from collections.abc import Callable
from dataclasses import dataclass

from hardware_specs.records.evidence import Estimate
from simulator.forecast import Forecast
from simulator.scenario.model import ClosedLoop, Lengths, MeasuredFact, Point, Scenario


@dataclass(frozen=True)
class Comparison:
    """One measured figure and its prediction."""

    point: Point
    fact: MeasuredFact
    predicted: Estimate | None

    @property
    def error(self) -> float:
        """Predicted over measured, minus one; nan where there is no prediction."""
        return self.predicted.value / self.fact.value - 1 if self.predicted else float("nan")

    @property
    def inside(self) -> bool:
        """Whether the measured figure lies in the predicted interval."""
        return self.predicted is not None and self.predicted.low <= self.fact.value <= self.predicted.high


def compare_points(
    scenario: Scenario,
    forecast: Callable[[Scenario], Forecast],
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Comparison, ...]:
    """Every measured figure of the scenario's points beside its prediction."""
    found: list[Comparison] = []
    for index, point in enumerate(scenario.points):
        tick(index, len(scenario.points))
        metrics = forecast(at_point(scenario, point)).metrics
        found += [Comparison(point, fact, metrics.get(fact.metric)) for fact in point.measured]
    return tuple(found)


def at_point(scenario: Scenario, point: Point) -> Scenario:
    """The scenario with the point's clients and lengths; the laws of the lengths stay the scenario's own."""
    workload = scenario.workload.model_copy(
        update={
            "arrivals": ClosedLoop(concurrency=point.concurrency),
            "input_tokens": _with_mean(scenario.workload.input_tokens, point.isl),
            "output_tokens": _with_mean(scenario.workload.output_tokens, point.osl),
        }
    )
    return scenario.model_copy(update={"workload": workload, "points": ()})


def _with_mean(lengths: Lengths | None, mean: int) -> Lengths:
    return Lengths(mean=mean) if lengths is None else lengths.model_copy(update={"mean": mean})
