"""From graphs, a system and a stack to the step table that the serving simulator runs on."""

import numpy as np
from numpy.typing import NDArray

from simulator.step.components import StepComponents, Tally
from simulator.step.constants import StackConstants
from simulator.step.table import AttentionGrid, StepTable

FloatArray = NDArray[np.float64]


def step_table(components: StepComponents, constants: StackConstants, max_tokens: int) -> StepTable:
    """The table for steps of up to `max_tokens` tokens on a rank; `StepTable` extends it linearly beyond."""
    counts = np.arange(max_tokens + 1, dtype=np.float64)
    total_counts = np.arange(max_tokens * components.dp + 1, dtype=np.float64)
    local = _seconds(components.local, constants, constants.kernel_scale)
    expert = _seconds(components.expert, constants, constants.kernel_scale)
    shared = _seconds(components.shared, constants, constants.kernel_scale)
    hidden = _hidden_seconds(components, shared, expert)
    head = _seconds(components.head, constants, constants.kernel_scale)
    decode = _seconds(components.decode, constants, constants.kernel_scale)
    return StepTable(
        local_s=_on_counts(components.tokens, local + shared - hidden, counts),
        expert_s=_on_counts(components.tokens, expert, total_counts),
        head_s=_on_counts(components.tokens, head, np.arange(2049, dtype=np.float64)),
        decode=AttentionGrid(components.decode_sequences, components.decode_context, decode),
        prefill=AttentionGrid(
            components.prefill_chunks,
            components.prefill_length,
            _prefill_seconds(components, constants, local + shared + expert),
        ),
        prefix_s=components.prefix_s * constants.prefill_scale,
        host_base_s=constants.host_base_s,
        host_per_sequence_s=constants.host_per_sequence_s,
        host_prefill_s=constants.host_prefill_s,
        dp=components.dp,
    )


def _hidden_seconds(components: StepComponents, shared: FloatArray, expert: FloatArray) -> FloatArray:
    """What the second stream hides: the shorter of shared and routed experts, while tokens are few."""
    routed = np.interp(components.tokens * components.dp, components.tokens, expert)
    return np.where(components.tokens <= components.second_stream_tokens, np.minimum(shared, routed), 0.0)


def _prefill_seconds(components: StepComponents, constants: StackConstants, linear: FloatArray) -> FloatArray:
    """Attention of prefill, and the share by which prefill stretches the token operators."""
    attention = _seconds(components.prefill, constants, constants.kernel_scale)
    tokens = components.prefill_chunks[:, None] * components.prefill_length[None, :]
    stretch = np.interp(tokens, components.tokens, linear - linear[0])
    beyond = tokens > components.tokens[-1]
    stretch = np.where(beyond, stretch * tokens / components.tokens[-1], stretch)
    return np.asarray(constants.prefill_scale * attention + (constants.prefill_scale - 1.0) * stretch)


def _seconds(tally: Tally, constants: StackConstants, scale: float) -> FloatArray:
    launches = tally.small_kernels * constants.small_kernel_s
    return np.asarray(scale * tally.kernel_s + tally.bandwidth_s + launches + tally.network_s)


def _on_counts(tokens: FloatArray, seconds: FloatArray, counts: FloatArray) -> FloatArray:
    """`seconds` at every integer count: exact where listed, linear between, proportional beyond; 0 at 0."""
    table = np.interp(counts, tokens, seconds)
    beyond = counts > tokens[-1]
    table[beyond] = seconds[-1] * counts[beyond] / tokens[-1]
    table[0] = 0.0
    return table
