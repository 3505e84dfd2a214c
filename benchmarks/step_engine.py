"""Speed of the step engine on a decode step like DeepSeek V3's: 61 layers, dispatch, combine, uneven experts.

Prints the time of each engine, operator instances per second, and the ratio to as many bare simpy timeouts as
the step has operator instances. Run `python -m benchmarks.step_engine [ranks]` from the repository.
"""

import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from time import process_time

import numpy as np
import simpy

from model_graphs.graph import Stream
from simulator.engine.streams import run_step, step_times
from simulator.step.longest_path import longest_path_s
from simulator.step.program import StepProgram, TimedBlock, TimedOperator, unroll

N_DENSE_LAYERS, N_MOE_LAYERS = 3, 58
KERNEL_S, EXPERTS_S, DISPATCH_S, COMBINE_S = 4e-6, 120e-6, 60e-6, 90e-6
EXPERT_IMBALANCE = 0.3
ATTENTION = [f"attention_{i}" for i in range(15)]
N_REPEATS = 7


def decode_step(n_ranks: int, imbalance: float = EXPERT_IMBALANCE) -> StepProgram:
    """A decode step of 1,514 operators a rank; routed experts take up to `imbalance` longer on some ranks."""
    operators = unroll(
        [
            TimedBlock("embedding", 1, (_kernel("gather", -1),)),
            TimedBlock(
                "dense", N_DENSE_LAYERS, _chain([*ATTENTION, "norm", "gate_up", "silu", "down", "add"])
            ),
            TimedBlock("moe", N_MOE_LAYERS, _moe_layer()),
            TimedBlock("head", 1, _chain(["norm", "logits", "sample"])),
        ]
    )
    rng = np.random.default_rng(0)
    return StepProgram(tuple(_uneven(op, n_ranks, imbalance, rng) for op in operators), n_ranks)


def _kernel(
    name: str, *deps: int, stream: Stream = Stream.COMPUTE, duration_s: float = KERNEL_S
) -> TimedOperator:
    collective = stream is Stream.COMMUNICATION
    return TimedOperator(name, name, "layer", stream, duration_s, deps, collective)


def _chain(names: list[str]) -> tuple[TimedOperator, ...]:
    return tuple(_kernel(name, i - 1) for i, name in enumerate(names))


def _moe_layer() -> tuple[TimedOperator, ...]:
    """Attention and router; dispatch, experts, combine; the shared expert beside the combine; the sum."""
    head = _chain([*ATTENTION, "norm", "route"])
    routed = len(head) - 1
    exchange = Stream.COMMUNICATION
    return (
        *head,
        _kernel("dispatch", routed, stream=exchange, duration_s=DISPATCH_S),
        _kernel("experts", routed + 1, duration_s=EXPERTS_S),
        _kernel("combine", routed + 2, stream=exchange, duration_s=COMBINE_S),
        _kernel("shared_gate_up", routed),
        _kernel("shared_silu", routed + 4),
        _kernel("shared_down", routed + 5),
        _kernel("add_shared", routed + 3, routed + 6),
        _kernel("residual", routed + 7),
    )


def _uneven(op: TimedOperator, n_ranks: int, imbalance: float, rng: np.random.Generator) -> TimedOperator:
    if op.kind != "experts" or not imbalance:
        return op
    factors = 1.0 + imbalance * rng.random(n_ranks)
    return replace(op, duration_s=tuple((EXPERTS_S * factors).tolist()))


def bare_timeouts(n_ranks: int, n_operators: int) -> float:
    """The same number of operator instances as timeouts that wait for nothing: simpy's own speed."""
    env = simpy.Environment()

    def rank() -> Generator[simpy.Event, None, None]:
        for _ in range(n_operators):
            yield env.timeout(KERNEL_S)

    for _ in range(n_ranks):
        env.process(rank())
    env.run()
    return float(env.now)


def cpu_s(work: Callable[[], object]) -> float:
    """Least processor time of a call, after one to warm up: other work on the machine only ever adds."""
    work()
    times = []
    for _ in range(N_REPEATS):
        started = process_time()
        work()
        times.append(process_time() - started)
    return min(times)


def main(n_ranks: int) -> None:
    """Print the table."""
    uneven, even = decode_step(n_ranks), decode_step(n_ranks, imbalance=0.0)
    n_operators = len(uneven.operators)
    n_instances = n_operators * n_ranks
    bare_s = cpu_s(partial(bare_timeouts, n_ranks, n_operators))
    configurations = uneven.durations_s[..., np.newaxis] * np.linspace(1.0, 2.0, 128)
    print(f"{n_operators} operators x {n_ranks} ranks = {n_instances} instances")
    print(
        f"makespan: events {step_times(uneven).makespan_s * 1e3:.6f} ms,"
        f" longest path {longest_path_s(uneven) * 1e3:.6f} ms"
    )
    rows: list[tuple[str, Callable[[], object], int]] = [
        ("bare simpy timeouts", partial(bare_timeouts, n_ranks, n_operators), 1),
        ("events, uneven ranks", partial(step_times, uneven), 1),
        ("events, even ranks (folded)", partial(step_times, even), 1),
        ("events with span records", partial(run_step, uneven), 1),
        ("longest path", partial(longest_path_s, uneven), 1),
        ("longest path, 128 points", partial(longest_path_s, uneven, configurations), 128),
    ]
    for name, work, n_steps in rows:
        step_s = cpu_s(work) / n_steps
        print(
            f"{name:30s} {step_s * 1e3:9.3f} ms a step {n_instances / step_s / 1e6:9.2f} M instances/s"
            f" {step_s / bare_s:7.2f} x bare"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
