"""Which operators a step's ingredients are made of, for models whose attention has one name in all phases."""

import numpy as np
import pytest

from simulator.prepared import Prepared, prepare
from simulator.scenario.model import Deployment


@pytest.fixture(scope="module")
def sparse() -> Prepared:
    return prepare(Deployment(model="deepseek-v3.2", system="h200_sxm", tp=8, precision="fp8"))


@pytest.fixture(scope="module")
def grouped() -> Prepared:
    return prepare(Deployment(model="glm-4.5-air", system="h200_sxm", tp=8, precision="bf16"))


def attention_s(ready: Prepared, sequences: float, tokens: float) -> float:
    """Kernel seconds of prefill attention at a point of the grid."""
    made = ready.components
    row = int(np.searchsorted(made.prefill_chunks, sequences))
    column = int(np.searchsorted(made.prefill_length, tokens))
    return float(made.prefill.kernel_s[row, column])


def test_attention_of_prefill_is_priced_where_decode_has_it_under_the_same_name(grouped: Prepared) -> None:
    per_layer = grouped.library.attention_prefill(1, 8192, 12, 1, 128).latency_s
    assert attention_s(grouped, 1, 8192) == pytest.approx(46 * float(per_layer), rel=1e-6)


def test_scores_and_choices_of_a_prompt_are_priced_as_a_prompt(sparse: Prepared) -> None:
    scores_s = float(sparse.library.sequences.index_scores(1, 8192, 0, 64, 128).latency_s)
    sparse_s = float(sparse.library.sequences.sparse_attention(1, 8192, 0, 16, 2048).latency_s)
    assert attention_s(sparse, 1, 8192) == pytest.approx(61 * (scores_s + sparse_s), rel=1e-6)


def test_a_chunk_pays_for_scoring_the_tokens_before_it(sparse: Prepared) -> None:
    new, past = 2048.0, 8192.0
    extra = sparse.library.sequences.index_scores(1, new, past, 64, 128).latency_s
    extra = extra - sparse.library.sequences.index_scores(1, new, 0, 64, 128).latency_s
    assert sparse.components.prefix_s == pytest.approx(61 * float(extra) / (new * past))


def test_index_keys_take_room_beside_the_latents(sparse: Prepared) -> None:
    layer = sparse.graphs["decode"].blocks[1]
    append = next(op for op in layer.operators if op.name == "self_attn.kv_append")
    latent = {"bf16": 1152, "fp8": 576}[append.outputs[0].dtype]
    assert sparse.memory.kv_bytes_per_token == 61 * (latent + 132)
