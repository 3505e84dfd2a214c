"""Everything that `simulate` and `report` show of one scenario, gathered once: data only, no layout."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hardware_specs.records.errors import Problem
from reports.comparison import Comparison, compare_points
from reports.indicators import HardwareCost, LongContext, hardware_cost, long_context
from reports.objectives import ObjectiveCheck, check_objectives
from simulator.forecast import Assumption, Forecast
from simulator.scenario.model import Scenario, TraceReplay
from simulator.scenario.trace import read_trace


@dataclass(frozen=True)
class SimulationReport:
    """A forecast with its indicators, its checks against limits, and what was measured beside it."""

    forecast: Forecast
    long_context: LongContext
    cost: HardwareCost | None
    objectives: tuple[ObjectiveCheck, ...]
    comparisons: tuple[Comparison, ...]


def simulate_report(
    scenario: Scenario,
    assumed: tuple[Assumption, ...],
    forecast: Callable[[Scenario], Forecast],
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> SimulationReport:
    """Run the scenario, its long-context variants and its measured points; `assumed` heads the ledger.

    Raises:
        InputError, InfeasibleError: what the forecast of the scenario itself raises.
    """
    base = forecast(scenario)
    comparisons = compare_points(scenario, forecast, tick)
    context = long_context(base, forecast)
    ledger = replace(base, assumptions=(*assumed, *left_out_rows(scenario), *base.assumptions))
    return SimulationReport(ledger, context, hardware_cost(base), check_objectives(base), comparisons)


def left_out_rows(scenario: Scenario) -> tuple[Assumption, ...]:
    """The rows of a trace that could not be read: the forecast answers for the others."""
    arrivals = scenario.workload.arrivals
    if not isinstance(arrivals, TraceReplay):
        return ()
    problems: tuple[Problem, ...] = read_trace(arrivals.path).problems
    return tuple(Assumption("trace row", "left out", str(problem), "given") for problem in problems)
