"""Speed of the request-level serving loop, alone and as bare simpy timeouts a request.

The workload: Poisson arrivals, lognormal lengths (mean 1,000 in and 200 out), chunks of 2,048 tokens, a mean
decode batch of about 24, per-request records on. Run with `python -m benchmarks.serving_loop [requests]
[repeats]`; the best of the repeats counts, because other work on the machine only ever slows a run down.
"""

import sys
from collections.abc import Callable, Generator
from time import process_time
from typing import Any

import numpy as np
from simpy import Environment, Event

from simulator.scenario.model import ClosedLoop, Lengths, Poisson, Workload
from simulator.serving.options import EngineOptions
from simulator.serving.policy import Policy, SglangPrefillFirst, VllmV1
from simulator.serving.simulate import Simulation, simulate_serving
from simulator.serving.workload import Requests, generate
from simulator.step.table import AttentionGrid, StepTable

#: requests a second at which the table below decodes about 24 sequences a step
RATE_PER_S = 6.0
N_BARE_TIMEOUTS = 200_000


def moe_table() -> StepTable:
    """A step shaped like that of a 671B mixture of experts on eight devices of 3 TB/s and 900 TFLOP/s."""
    n = np.arange(4097.0)
    touched = 256 * (1 - (1 - 8 / 256) ** n)  # experts whose weights are read
    linear_s = 3e-3 + np.maximum((26e9 + 58 * touched * 44e6) / 24e12, n * 74e9 / 7200e12)
    sequences = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    length = np.array([1.0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768])
    attention = AttentionGrid(sequences, length, np.outer(sequences, length) * 70272 / 24e12)
    prefill = AttentionGrid(sequences, length, np.outer(sequences, length**2) * 61 * 128 * 320 / 5600e12)
    return StepTable(
        local_s=linear_s / 2,
        expert_s=linear_s / 2,
        head_s=n * 1e-7,
        decode=attention,
        prefill=prefill,
        prefix_s=61 * 2 * 128 * 320 / 5600e12,
        host_base_s=0.0,
        host_per_sequence_s=1e-5,
        host_prefill_s=0.0,
    )


def open_requests(n_requests: int) -> Requests:
    """The workload of the benchmark."""
    return generate(
        Workload(
            arrivals=Poisson(rate_per_s=RATE_PER_S, requests=n_requests),
            input_tokens=Lengths(law="lognormal", mean=1000),
            output_tokens=Lengths(law="lognormal", mean=200),
        )
    )


def best_s(repeats: int, measure: Callable[[], float]) -> float:
    """The shortest of several measurements."""
    return min(measure() for _ in range(repeats))


def loop_s(options: EngineOptions, requests: Requests) -> float:
    """Processor seconds of the event loop alone."""
    simulation = Simulation(moe_table(), options, requests, seed=0)
    start_s = process_time()
    simulation.env.run()
    return process_time() - start_s


def call_s(options: EngineOptions, requests: Requests) -> float:
    """Processor seconds of a whole call, from requests to records."""
    start_s = process_time()
    simulate_serving(moe_table(), options, requests)
    return process_time() - start_s


def bare_timeout_s() -> float:
    """Processor seconds of a simpy timeout in a process that does nothing else."""

    def sleeper(env: Environment) -> Generator[Event, Any, None]:
        for _ in range(N_BARE_TIMEOUTS):
            yield env.timeout(1.0)

    env = Environment()
    env.process(sleeper(env))
    start_s = process_time()
    env.run()
    return (process_time() - start_s) / N_BARE_TIMEOUTS


def engine(policy: Policy, jump_decode_runs: bool = True) -> EngineOptions:
    """An engine with room for the workload."""
    return EngineOptions(
        policy,
        step_tokens=2048,
        max_running=256,
        kv_capacity_tokens=600_000,
        jump_decode_runs=jump_decode_runs,
    )


def line(name: str, options: EngineOptions, requests: Requests, repeats: int, bare_s: float) -> str:
    """One engine's speed."""
    run = simulate_serving(moe_table(), options, requests)
    in_loop_s = best_s(repeats, lambda: loop_s(options, requests)) / len(requests)
    whole_s = best_s(repeats, lambda: call_s(options, requests)) / len(requests)
    steps_per_request = run.n_steps / len(requests)
    return (
        f"{name:28s} {1 / in_loop_s:9,.0f} requests/s {steps_per_request / in_loop_s:11,.0f} steps/s "
        f"{in_loop_s / bare_s:6.1f} bare timeouts a request; whole call {1 / whole_s:,.0f} requests/s; "
        f"mean decode batch {run.counters['mean_decode_batch']:.1f}"
    )


def main(n_requests: int = 20_000, repeats: int = 7) -> None:
    """Print the speed of the loop with and without jumps, and the time of a closed-loop run."""
    bare_s = best_s(repeats, bare_timeout_s)
    print(f"bare simpy timeouts: {1 / bare_s:,.0f}/s")
    requests = open_requests(n_requests)
    print(line("mixed steps, runs jumped", engine(VllmV1()), requests, repeats, bare_s))
    print(line("mixed steps, every step", engine(VllmV1(), False), requests, repeats, bare_s))
    print(line("prompts first, runs jumped", engine(SglangPrefillFirst()), requests, repeats, bare_s))
    lengths = Lengths(law="uniform", mean=1024)
    workload = Workload(arrivals=ClosedLoop(concurrency=64), input_tokens=lengths, output_tokens=lengths)
    closed = generate(workload)
    call_ms = best_s(repeats, lambda: call_s(engine(VllmV1()), closed)) * 1e3
    print(f"closed loop of 64, {len(closed)} requests of 1024 in and out: {call_ms:.1f} ms a call")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
