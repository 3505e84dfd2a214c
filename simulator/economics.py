"""Money, first form: a price a GPU-hour over the tokens that a deployment makes in it."""

from collections.abc import Mapping

from hardware_specs.records.evidence import Estimate, Grade
from simulator.scenario.model import Scenario


def cost_metrics(scenario: Scenario, metrics: Mapping[str, Estimate], grade: Grade) -> dict[str, Estimate]:
    """USD an hour of the deployment and a million output and total tokens; empty without a price."""
    price = scenario.price_usd_per_gpu_hour
    if price is None:
        return {}
    hourly = price * scenario.deployment.gpus
    costs = {"usd_per_hour": Estimate(hourly, hourly, hourly, "USD/h", Grade.A)}
    for kind in ("output", "total"):
        rate = metrics.get(f"{kind}_tok_s")
        if rate is not None and rate.low > 0:
            value, low, high = (hourly / 3600 / r * 1e6 for r in (rate.value, rate.high, rate.low))
            costs[f"usd_per_million_{kind}_tokens"] = Estimate(value, low, high, "USD", grade)
    return costs
