"""Energy of steps and of serving runs, GPU only: work from the graphs, watts from the power model.

A serving run's work is that of its mean decode step and its mean prefill step, each times its number; idle
devices draw idle power. Host, network and cooling are not included.
"""

from hardware_specs.records.evidence import Estimate, Grade, worst
from model_graphs.runs.records import ServingRun, Span, StepRun
from simulator.costs.energy import PowerModel, power_model
from simulator.prepared import Deployed, Prepared
from simulator.step.pricing import Work, graph_work, total_work


def step_energy(prepared: Deployed, run: StepRun, grade: Grade) -> tuple[Estimate, Estimate]:
    """(energy in J, power in W) of all devices of a replica in one step.

    Active watts are drawn over the whole makespan, once a rank however many of its streams are busy; what
    the spans use beyond that comes on top.
    """
    model = power_model(prepared.system.device)
    work_j = sum(_joules(s) - model.active_w * (s.end_s - s.start_s) for s in run.spans)
    joules = model.active_w * run.makespan_s * run.n_ranks + work_j
    known = worst(grade, model.grade)
    energy = Estimate.from_log_half_width(joules, model.log_half_width, "J", known)
    return energy, _power(model, joules / run.makespan_s, run.n_ranks, known)


def _joules(span: Span) -> float:
    assert span.energy_j is not None, "the energy of a simulated span is known"
    return span.energy_j


def serving_energy(prepared: Prepared, run: ServingRun, grade: Grade) -> dict[str, Estimate]:
    """Mean watts of all devices, joules an output token and a request."""
    model = power_model(prepared.system.device)
    ranks, replicas = prepared.layout.n_ranks, prepared.deployment.replicas
    busy_s = run.counters["busy_s"]
    idle = prepared.system.device.idle_w
    idle_w = idle.value if idle else model.active_w
    idle_s = max(run.makespan_s * replicas - busy_s, 0.0)
    joules = ranks * (run_work(prepared, run).energy_j(model, busy_s) + idle_w * idle_s)
    known = worst(grade, model.grade)
    n_tokens, n_requests = float(run.requests.output_tokens.sum()), len(run.requests.arrival_s)
    per_token = Estimate.from_log_half_width(joules / n_tokens, model.log_half_width, "J/token", known)
    per_request = Estimate.from_log_half_width(joules / n_requests, model.log_half_width, "J/request", known)
    return {
        "energy_j_per_token": per_token,
        "energy_j_per_request": per_request,
        "power_w": _power(model, joules / run.makespan_s, ranks * replicas, known),
    }


def run_work(prepared: Prepared, run: ServingRun) -> Work:
    """Work of one rank over all steps of all replicas."""
    counters, requests, engine = run.counters, run.requests, prepared.library.engine
    dp = prepared.layout.dp
    mean_input = float(requests.input_tokens.mean())
    mean_context = mean_input + float(requests.output_tokens.mean()) / 2
    parts: list[tuple[Work, float]] = []
    if counters["decode_steps"]:
        batch = counters["sequence_steps"] / counters["decode_steps"] / dp
        point = {"B": batch, "S": 1.0, "T": mean_context - 1}
        decode = graph_work(prepared.graphs["decode"], point, batch, engine)
        parts.append((decode, counters["decode_steps"]))
    if counters["prefill_steps"]:
        prompts = counters["prefill_tokens"] / counters["prefill_steps"] / mean_input / dp
        point = {"B": prompts, "S": mean_input, "T": 0.0}
        prefill = graph_work(prepared.graphs["prefill"], point, prompts, engine)
        parts.append((prefill, counters["prefill_steps"]))
    return total_work(parts)


def _power(model: PowerModel, watts: float, n_devices: int, grade: Grade) -> Estimate:
    """Watts of `n_devices`, neither end of the interval above their boards' limit."""
    limit = model.limit_w * n_devices
    spread = Estimate.from_log_half_width(watts, model.log_half_width, "W", grade)
    return Estimate(min(spread.value, limit), min(spread.low, limit), min(spread.high, limit), "W", grade)
