"""One step as a user asks for it: sums, limits and refusals."""

import pytest

from hardware_specs.library import load_system
from hardware_specs.records.errors import DoesNotFitError, InputError
from model_graphs.graph import Stream
from simulator.costs.energy import power_model
from simulator.scenario.model import Deployment
from simulator.step_forecast import forecast_step

R1 = Deployment(model="deepseek-r1", system="h200_sxm", stack="sglang", stack_version="0.5.9")


@pytest.fixture(scope="module")
def decode():
    return forecast_step(R1, "decode", 16, 2048)


def test_active_watts_are_drawn_once_where_streams_overlap(decode):
    active_w = power_model(load_system(R1.system).device).active_w
    spans_j = sum(span.energy_j for span in decode.run.spans)
    beside_s = sum(s.end_s - s.start_s for s in decode.run.spans if s.stream == Stream.SECOND_COMPUTE)
    assert beside_s > 0
    assert decode.energy_j.value == pytest.approx(spans_j - active_w * beside_s)


def test_power_is_energy_over_time_and_below_the_boards_limit(decode):
    assert decode.power_w.value == pytest.approx(decode.energy_j.value / decode.run.makespan_s)
    assert decode.power_w.high <= 8 * 700


def test_the_work_of_the_step_is_that_of_its_operators(decode):
    one_rank = [span for span in decode.run.spans if span.rank == 0]
    assert sum(span.flop for span in one_rank) == pytest.approx(decode.work.flop)
    assert sum(span.traffic_bytes for span in one_rank) == pytest.approx(decode.work.traffic_bytes)


def test_a_longer_context_takes_longer_and_more_energy(decode):
    longer = forecast_step(R1, "decode", 16, 32768)
    assert longer.latency.value > decode.latency.value
    assert longer.energy_j.value > decode.energy_j.value


def test_a_prompt_after_a_prefix_takes_longer_than_one_without():
    alone = forecast_step(R1, "chunked_prefill", 1, 2048, 16)
    after = forecast_step(R1, "chunked_prefill", 1, 2048, 32768)
    assert after.latency.value > alone.latency.value


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("training", 1, 1), "phase"),
        (("decode", 0, 1), "batch"),
        (("decode", 1, 0), "length"),
        (("prefill", 1, 10, 5), "past"),
    ],
)
def test_what_is_no_step_is_refused(arguments, path):
    with pytest.raises(InputError) as caught:
        forecast_step(R1, *arguments)
    assert path in {problem.path for problem in caught.value.problems}


BERT = Deployment(
    model="bert-large",
    system="h100_sxm",
    stack="vllm",
    precision="bf16",
    gpus=1,
    tp=1,
    gpu_memory_fraction=0.9,
)


def test_an_encoder_takes_longer_for_more_and_for_longer_texts():
    one, more, longer = (forecast_step(BERT, "encode", b, s) for b, s in ((8, 128), (32, 128), (8, 512)))
    assert one.latency.value < more.latency.value < longer.latency.value
    assert one.latency.grade == "C"  # encoders were measured on later generations


def test_the_work_of_an_encoder_is_that_of_its_graph():
    # 4096 B S (24 S + 147457) at 8 texts of 384 tokens
    step = forecast_step(BERT, "encode", 8, 384)
    assert step.work.flop == 4096 * 8 * 384 * (24 * 384 + 147457)


def test_an_image_has_as_many_tokens_as_its_encoder_whatever_the_length():
    vit = BERT.model_copy(update={"model": "vit-large-for-deepseek-v3"})
    assert forecast_step(vit, "encode", 4, 1).work == forecast_step(vit, "encode", 4, 999).work


def test_an_encoder_generates_no_tokens_and_a_decoder_encodes_none():
    with pytest.raises(InputError, match="must generate tokens"):
        forecast_step(BERT, "decode", 8, 384)
    with pytest.raises(InputError, match="phase of deepseek-r1 must be one of"):
        forecast_step(R1, "encode", 8, 384)


def test_an_encoder_that_does_not_fit_is_refused():
    with pytest.raises(DoesNotFitError):
        forecast_step(BERT.model_copy(update={"gpu_memory_fraction": 0.01}), "encode", 8, 384)
