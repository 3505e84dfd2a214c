"""Whether the limits that a scenario states are met, at its percentile, by the simulated requests."""

from dataclasses import dataclass

import numpy as np

from hardware_specs.records.evidence import Estimate
from simulator.forecast import Forecast


@dataclass(frozen=True)
class ObjectiveCheck:
    """One limit in ms, the forecast at the percentile, and whether it holds."""

    metric: str
    percentile: float
    limit_ms: float
    value_ms: float
    estimate: Estimate | None

    @property
    def met(self) -> bool:
        """Whether the forecast is within the limit."""
        return self.value_ms <= self.limit_ms

    def __str__(self) -> str:
        relation = "<=" if self.met else ">"
        verdict = "met" if self.met else "missed"
        name = f"{self.metric} p{self.percentile:g}"
        return f"{name} {self.value_ms:,.1f} ms {relation} {self.limit_ms:,.1f} ms: {verdict}"


def check_objectives(forecast: Forecast) -> tuple[ObjectiveCheck, ...]:
    """A check for each limit that the scenario states."""
    objectives = forecast.scenario.objectives
    requests = forecast.run.requests
    limits = (("TTFT", objectives.ttft_ms, requests.ttft_s), ("TPOT", objectives.tpot_ms, requests.tpot_s))
    checks: list[ObjectiveCheck] = []
    for name, limit_ms, seconds in limits:
        if limit_ms is None:
            continue
        estimate = forecast.metrics.get(metric_name(name.lower(), objectives.percentile))
        simulated = float(np.nanpercentile(seconds, objectives.percentile)) * 1e3
        value = estimate.value if estimate else simulated
        checks.append(ObjectiveCheck(name, objectives.percentile, limit_ms, value, estimate))
    return tuple(checks)


def metric_name(quantity: str, percentile: float) -> str:
    """The metric's name at a percentile: `ttft_median_ms`, `ttft_p99_ms`."""
    return f"{quantity}_median_ms" if percentile == 50 else f"{quantity}_p{percentile:g}_ms"
