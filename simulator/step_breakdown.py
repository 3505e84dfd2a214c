"""Where a run's mean decode step spends its time, by component; seconds that sum to the step."""

from model_graphs.runs.records import ServingRun
from simulator.costs.energy import power_model
from simulator.engine.streams import run_step
from simulator.prepared import Prepared
from simulator.step.breakdown import break_down
from simulator.step.pricing import PricedStep, price_step


def mean_decode_step(prepared: Prepared, run: ServingRun) -> PricedStep:
    """The decode step at the run's mean batch and mean context."""
    counters, requests = run.counters, run.requests
    running = counters["sequence_steps"] / max(counters["decode_steps"], 1.0)
    batch = max(running / prepared.layout.dp, 1.0)
    context = float(requests.input_tokens.mean() + requests.output_tokens.mean() / 2)
    return price_step(
        prepared.graphs["decode"],
        prepared.library,
        prepared.stack.constants.plain(),
        power_model(prepared.system.device),
        {"B": batch, "S": 1.0, "T": max(context - 1, 0.0)},
        n_ranks=1,
        sampled=batch,
        running=running,
        second_stream_tokens=prepared.stack.rules.second_stream_tokens.value,
    )


def mean_decode_breakdown(prepared: Prepared, run: ServingRun) -> dict[str, float]:
    """Seconds of the mean decode step by component, idle time included."""
    shares = break_down(run_step(mean_decode_step(prepared, run).program))
    return shares.seconds()["component"]
