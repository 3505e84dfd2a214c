"""Everything that `simulate` and `report` show of one scenario, gathered once: data only, no layout."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from reports.comparison import Comparison, compare_points
from reports.indicators import HardwareCost, LongContext, hardware_cost, long_context
from reports.objectives import ObjectiveCheck, check_objectives
from simulator.forecast import Assumption, Forecast
from simulator.scenario.model import Scenario


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
    ledger = replace(base, assumptions=(*assumed, *base.assumptions))
    return SimulationReport(ledger, context, hardware_cost(base), check_objectives(base), comparisons)
