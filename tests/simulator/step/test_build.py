"""The step table against its ingredients and against the step engine."""

import numpy as np
import pytest

from model_graphs.graph import Stream
from simulator.costs.energy import power_model
from simulator.engine.streams import run_step
from simulator.prepared import prepare
from simulator.scenario.model import Deployment
from simulator.step.build import step_table
from simulator.step.constants import StackConstants
from simulator.step.pricing import price_step

R1 = Deployment(model="deepseek-r1", system="h200_sxm", stack="sglang", stack_version="0.5.9")
PLAIN = StackConstants(prefill_scale=1.0)


@pytest.fixture(scope="module")
def ready():
    return prepare(R1)


def priced_decode(ready, batch, context, second_stream_tokens):
    return price_step(
        ready.graphs["decode"],
        ready.library,
        PLAIN,
        power_model(ready.system.device),
        {"B": float(batch), "S": 1.0, "T": context - 1.0},
        n_ranks=8,
        sampled=float(batch),
        running=float(batch),
        second_stream_tokens=second_stream_tokens,
    )


def decode_step_s(table, batch, context):
    return float(
        table.local_s[batch] + table.expert_s[batch] + table.head_s[batch] + table.decode(batch, context)
    )


@pytest.mark.parametrize("batch", [1, 16, 64, 256])
@pytest.mark.parametrize("context", [1024, 4096])
def test_the_table_and_the_step_engine_agree_on_a_decode_step(ready, batch, context):
    table = step_table(ready.components, PLAIN, 512)
    priced = priced_decode(ready, batch, context, ready.components.second_stream_tokens)
    # grid points of the table: equal but for the gate, which the engine does not let shared experts pass
    makespan = run_step(priced.program).makespan_s
    assert makespan == pytest.approx(decode_step_s(table, batch, context), rel=0.02)


def seconds(tally, index):
    launches = tally.small_kernels * PLAIN.small_kernel_s
    return tally.kernel_s[index] + tally.bandwidth_s[index] + tally.network_s[index] + launches


def test_the_table_is_exact_where_it_lists_token_counts(ready):
    table = step_table(ready.components, PLAIN, 2048)
    for tokens in (17, 2048):  # shared experts beside the routed ones, and in line
        index = int(np.searchsorted(ready.components.tokens, tokens))
        local, shared, expert = (
            seconds(tally, index)
            for tally in (ready.components.local, ready.components.shared, ready.components.expert)
        )
        in_line = max(shared - expert, 0.0) if tokens <= 1024 else shared
        assert table.local_s[tokens] == pytest.approx(local + in_line, rel=1e-12)


def test_a_second_stream_hides_shared_experts_and_nothing_else(ready):
    beside = run_step(priced_decode(ready, 16, 1024, 1024.0).program)
    in_line = run_step(priced_decode(ready, 16, 1024, 8.0).program)
    streams = {span.stream: set() for span in beside.spans}
    for span in beside.spans:
        streams[span.stream].add(span.component)
    shared_s = sum(
        s.end_s - s.start_s for s in in_line.spans if s.rank == 0 and s.component == "shared_expert"
    )
    assert streams[Stream.SECOND_COMPUTE] == {"shared_expert"}
    assert Stream.SECOND_COMPUTE not in {span.stream for span in in_line.spans}
    assert in_line.makespan_s - beside.makespan_s == pytest.approx(shared_s, rel=1e-6)


def test_no_tokens_take_no_time(ready):
    table = step_table(ready.components, PLAIN, 512)
    assert table.local_s[0] == table.expert_s[0] == table.head_s[0] == 0.0


def test_beyond_the_listed_counts_time_is_proportional(ready):
    listed = int(ready.components.tokens[-1])
    table = step_table(ready.components, PLAIN, 2 * listed)
    assert table.local_s[2 * listed] == pytest.approx(2 * table.local_s[listed])


def test_a_slower_kernel_scale_never_makes_a_step_faster(ready):
    slow = step_table(ready.components, StackConstants(kernel_scale=1.2, prefill_scale=1.0), 512)
    table = step_table(ready.components, PLAIN, 512)
    assert (slow.local_s >= table.local_s).all()
    assert (slow.decode.latency_s >= table.decode.latency_s).all()


def test_scaling_a_table_scales_every_latency(ready):
    table = step_table(ready.components, PLAIN, 512)
    assert decode_step_s(table.scaled(1.5), 16, 4096) == pytest.approx(1.5 * decode_step_s(table, 16, 4096))


def test_prefill_scale_stretches_prompts_and_not_decoding(ready):
    stretched = step_table(ready.components, StackConstants(prefill_scale=1.5), 512)
    table = step_table(ready.components, PLAIN, 512)
    assert (stretched.prefill.latency_s[:, -1] > table.prefill.latency_s[:, -1]).all()
    assert (stretched.local_s == table.local_s).all()
    assert (stretched.decode.latency_s == table.decode.latency_s).all()
