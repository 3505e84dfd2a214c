"""Latency and throughput against load: the scenario run again at other loads, everything else the same."""

from collections.abc import Callable
from dataclasses import dataclass

from hardware_specs.records.errors import InfeasibleError
from hardware_specs.records.evidence import Estimate
from simulator.forecast import Forecast
from simulator.scenario.model import ClosedLoop, Poisson, Scenario

_CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RATE_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class LoadPoint:
    """One load (clients, or requests per second) and what it gives."""

    load: float
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class LoadCurve:
    """Points in order of load; `axis` says what the load is. Empty where the load is the trace's own."""

    axis: str
    points: tuple[LoadPoint, ...]


def load_curve(
    scenario: Scenario,
    forecast: Callable[[Scenario], Forecast],
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> LoadCurve:
    """The curve around the scenario's own load. Loads that nothing can serve are left out."""
    axis, variants = _variants(scenario)
    points: list[LoadPoint] = []
    for index, (load, variant) in enumerate(variants):
        tick(index, len(variants))
        try:
            points.append(LoadPoint(load, dict(forecast(variant).metrics)))
        except InfeasibleError:
            continue
    return LoadCurve(axis, tuple(points))


def _variants(scenario: Scenario) -> tuple[str, list[tuple[float, Scenario]]]:
    arrivals = scenario.workload.arrivals
    if isinstance(arrivals, ClosedLoop):
        clients = sorted({*_CLIENTS, arrivals.concurrency})
        return "clients", [(n, _with(scenario, ClosedLoop(concurrency=n))) for n in clients]
    if isinstance(arrivals, Poisson):
        rates = [factor * arrivals.rate_per_s for factor in _RATE_FACTORS]
        return "requests/s", [(rate, _with(scenario, _at_rate(arrivals, rate))) for rate in rates]
    return "", []


def _at_rate(arrivals: Poisson, rate_per_s: float) -> Poisson:
    return arrivals.model_copy(update={"rate_per_s": rate_per_s})


def _with(scenario: Scenario, arrivals: ClosedLoop | Poisson) -> Scenario:
    workload = scenario.workload.model_copy(update={"arrivals": arrivals})
    return scenario.model_copy(update={"workload": workload, "points": ()})
