"""Step tables and requests that the serving tests share."""

import numpy as np

from model_graphs.runs.records import FloatArray, ServingRun
from simulator.serving.options import EngineOptions
from simulator.serving.policy import Policy, VllmV1
from simulator.serving.workload import Requests
from simulator.step.table import AttentionGrid, StepTable

NO_ATTENTION = AttentionGrid(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.zeros((2, 2)))


def counting_table(seconds_per_token: float = 1.0, dp: int = 1) -> StepTable:
    """A step lasts as many seconds as the busiest rank has tokens, so that times add up by hand."""
    return StepTable(
        local_s=np.array([0.0, seconds_per_token]),
        expert_s=np.zeros(2),
        head_s=np.zeros(2),
        decode=NO_ATTENTION,
        prefill=NO_ATTENTION,
        prefix_s=0.0,
        host_base_s=0.0,
        host_per_sequence_s=0.0,
        host_prefill_s=0.0,
        dp=dp,
    )


def served_table(dp: int = 1) -> StepTable:
    """Every term of the formula present and none negligible: weights, tiles, curved attention, host."""
    n = np.arange(600)
    sequences = np.array([1.0, 4.0, 16.0, 64.0])
    length = np.array([1.0, 40.0, 100.0, 300.0, 1000.0])
    decode = 1e-4 * sequences[:, None] ** 0.8 * (1 + length[None, :] ** 1.1 / 200)
    prefill = 1e-6 * sequences[:, None] * length[None, :] ** 1.5
    return StepTable(
        local_s=1e-3 + 1e-5 * np.ceil(n / 16) * 16,
        expert_s=1e-3 * (1 - 0.97**n),
        head_s=2e-6 * n.astype(float),
        decode=AttentionGrid(sequences, length, decode),
        prefill=AttentionGrid(sequences, length, prefill),
        prefix_s=1e-9,
        host_base_s=2e-4,
        host_per_sequence_s=1e-5,
        host_prefill_s=5e-4,
        dp=dp,
    )


def options(policy: Policy | None = None, **changes: object) -> EngineOptions:
    """An engine with room for everything, unless a change says otherwise."""
    settings: dict[str, object] = {"step_tokens": 8192, "max_running": 256, "kv_capacity_tokens": 10**6}
    return EngineOptions(policy or VllmV1(), **(settings | changes))  # type: ignore[arg-type]


def burst(input_tokens: list[int], output_tokens: list[int]) -> Requests:
    """Every request at time zero."""
    return timed([0.0] * len(input_tokens), input_tokens, output_tokens)


def timed(arrival_s: list[float], input_tokens: list[int], output_tokens: list[int]) -> Requests:
    """Requests at given times."""
    return Requests(
        np.array(input_tokens), np.array(output_tokens), arrival_s=np.array(arrival_s, dtype=float)
    )


def closed(concurrency: int, input_tokens: list[int], output_tokens: list[int]) -> Requests:
    """Requests paced by clients."""
    return Requests(np.array(input_tokens), np.array(output_tokens), concurrency=concurrency)


def token_gaps_s(run: ServingRun) -> FloatArray:
    """Every gap between tokens that a sequence saw, smallest first."""
    assert run.itl_s is not None and run.itl_weight is not None
    return np.sort(np.repeat(run.itl_s, run.itl_weight.astype(int)))


def random_requests(
    seed: int, n: int, longest_input: int = 400, longest_output: int = 60
) -> tuple[list[int], list[int]]:
    """Lengths that differ, single-token outputs among them."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, longest_input, n).tolist(), rng.integers(1, longest_output, n).tolist()
