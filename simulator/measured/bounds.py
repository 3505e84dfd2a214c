"""Bounds that no run can beat, to tell a fast run from one whose record leaves something out."""

from simulator.prepared import prepare
from simulator.scenario.model import ClosedLoop, Scenario
from simulator.step.pricing import graph_work


def weight_read_bound_ms(scenario: Scenario) -> float | None:
    """The time to read a decode step's weights and cache once at the datasheet's bandwidth, milliseconds.

    Without speculation every output token takes at least such a step. None where the workload does not state
    how many sequences decode together. The batch is that of all clients decoding, so the bound is a little
    high while clients ramp up; a tenth is left for that.
    """
    arrivals = scenario.workload.arrivals
    if not isinstance(arrivals, ClosedLoop) or scenario.workload.input_tokens is None:
        return None
    prepared = prepare(scenario.deployment)
    batch = max(arrivals.concurrency / prepared.layout.dp / scenario.deployment.replicas, 1.0)
    context = 0.8 * scenario.workload.input_tokens.mean
    work = graph_work(prepared.graphs["decode"], {"B": batch, "S": 1.0, "T": context}, batch)
    bandwidth = prepared.system.device.memory.bandwidth_bytes_per_s.value
    return 0.9 * work.traffic_bytes / bandwidth * 1e3
