"""Steps of models with recurrent layers: states of sequences in memory and in the step table."""

from functools import cache

import pytest

from simulator.prepared import Prepared, prepare
from simulator.scenario.model import Deployment
from simulator.step.build import step_table
from simulator.step.constants import StackConstants

NANO = Deployment(
    model="nemotron-nano-v2-9b", system="h100_sxm", gpus=1, tp=1, precision="bf16", stack="vllm"
)
CONV_STATE = 27 * (128 * 80 + 2 * 8 * 128) * 3 * 2
SCAN_STATE = 27 * 128 * 80 * 128 * 4


@cache
def ready() -> Prepared:
    return prepare(NANO)


def test_a_sequence_takes_its_states_from_the_cache() -> None:
    memory = ready().memory
    assert memory.kv_bytes_per_sequence == CONV_STATE + SCAN_STATE
    assert memory.kv_bytes_per_token == 4 * 2 * 8 * 128 * 2
    assert memory.kv_tokens_per_sequence == -(-(CONV_STATE + SCAN_STATE) // 16384)


def test_tokens_of_a_prompt_are_not_priced_as_sequences_with_states() -> None:
    """8,192 sequences would move 2 x 143 MB each in 0.7 s; 8,192 tokens of one prompt take far less."""
    components = ready().components
    table = step_table(components, StackConstants(prefill_scale=1.0), 8192)
    moved_s = 8192 * 2 * SCAN_STATE / 3.35e12
    assert table.local_s[8192] < moved_s / 2


@pytest.mark.parametrize("batch", [64, 256])
def test_a_step_grows_with_the_states_of_its_sequences(batch: int) -> None:
    """Twice the sequences: at least the bytes of their states more, at the full bandwidth of 3.35 TB/s."""
    table = step_table(ready().components, StackConstants(prefill_scale=1.0), 1024)
    grown = table.decode(2 * batch, 1024) - table.decode(batch, 1024)
    assert grown > batch * 2 * (SCAN_STATE + CONV_STATE) / 3.35e12
