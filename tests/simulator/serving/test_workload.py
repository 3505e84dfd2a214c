import numpy as np
import pytest

from hardware_specs.records.errors import InputError
from simulator.scenario.model import Burst, ClosedLoop, Lengths, Poisson, TraceReplay, Workload
from simulator.scenario.trace import TraceRow, write_mooncake
from simulator.serving.workload import Requests, draw_lengths, generate

FIXED = Lengths(mean=100)
UNIFORM = Lengths(law="uniform", mean=1024)
LOGNORMAL = Lengths(law="lognormal", mean=1000)


def test_a_closed_loop_sends_ten_prompts_a_client() -> None:
    workload = Workload(arrivals=ClosedLoop(concurrency=7), input_tokens=UNIFORM, output_tokens=FIXED)
    requests = generate(workload)
    assert (len(requests), requests.concurrency, requests.arrival_s) == (70, 7, None)


def test_uniform_lengths_cover_both_ends() -> None:
    drawn = draw_lengths(UNIFORM, 20_000, np.random.default_rng(0))
    assert (drawn.min(), drawn.max()) == (819, 1024)  # 0.8 x 1024 rounded down, and 1024 itself


def test_lognormal_lengths_have_their_mean() -> None:
    drawn = draw_lengths(LOGNORMAL, 200_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(1000, rel=0.01)
    assert np.log(drawn).std() == pytest.approx(0.8, rel=0.02)


def test_lengths_are_one_or_more() -> None:
    assert draw_lengths(Lengths(law="lognormal", mean=1), 100, np.random.default_rng(0)).min() == 1
    assert draw_lengths(Lengths(law="uniform", mean=1), 100, np.random.default_rng(0)).tolist() == [1] * 100


def test_poisson_arrivals_have_their_rate() -> None:
    workload = Workload(
        arrivals=Poisson(rate_per_s=5, requests=40_000), input_tokens=FIXED, output_tokens=FIXED
    )
    arrival_s = generate(workload).arrival_s
    assert arrival_s is not None
    gaps_s = np.diff(arrival_s)
    assert gaps_s.mean() == pytest.approx(0.2, rel=0.02)
    assert gaps_s.std() == pytest.approx(0.2, rel=0.02)


def test_a_burst_comes_at_once() -> None:
    requests = generate(Workload(arrivals=Burst(requests=3), input_tokens=FIXED, output_tokens=FIXED))
    assert requests.arrival_s is not None
    assert requests.arrival_s.tolist() == [0.0] * 3


def test_the_same_seed_draws_the_same_requests_and_each_source_its_own() -> None:
    def draw(seed: int, inputs: Lengths = UNIFORM) -> Requests:
        arrivals = Poisson(rate_per_s=1, requests=50)
        return generate(Workload(arrivals=arrivals, input_tokens=inputs, output_tokens=UNIFORM), seed)

    assert draw(1).input_tokens.tolist() == draw(1).input_tokens.tolist()
    assert draw(1).input_tokens.tolist() != draw(2).input_tokens.tolist()
    # another law of input lengths leaves outputs and arrivals as they were
    assert draw(1).output_tokens.tolist() == draw(1, FIXED).output_tokens.tolist()
    np.testing.assert_array_equal(draw(1).arrival_s, draw(1, FIXED).arrival_s)


def test_a_trace_is_replayed_at_its_times_divided_by_the_rate_scale(tmp_path) -> None:
    path = tmp_path / "trace.jsonl"
    write_mooncake([TraceRow(0.0, 10, 1), TraceRow(1.5, 20, 2), TraceRow(4.0, 30, 3)], path)
    requests = generate(Workload(arrivals=TraceReplay(path=str(path), rate_scale=2.0, max_requests=2)))
    assert requests.arrival_s is not None
    assert requests.arrival_s.tolist() == [0.0, 0.75]
    assert requests.input_tokens.tolist() == [10, 20]
    assert requests.output_tokens.tolist() == [1, 2]


def test_broken_rows_of_a_trace_are_carried_along(tmp_path) -> None:
    path = tmp_path / "trace.jsonl"
    write_mooncake([TraceRow(0.0, 10, 1)], path)
    path.write_text(path.read_text() + "{}\n")
    requests = generate(Workload(arrivals=TraceReplay(path=str(path))))
    assert len(requests) == 1
    assert [problem.line for problem in requests.problems] == [2, 2, 2]


def test_lengths_are_needed_without_a_trace() -> None:
    with pytest.raises(InputError, match="needed without a trace"):
        generate(Workload(arrivals=Burst(requests=3), input_tokens=FIXED))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"input_tokens": [0], "output_tokens": [1], "concurrency": 1}, "one token or more"),
        ({"input_tokens": [1, 2], "output_tokens": [1], "concurrency": 1}, "must pair up"),
        ({"input_tokens": [1], "output_tokens": [1]}, "exactly one of them"),
        ({"input_tokens": [1], "output_tokens": [1], "concurrency": 0}, "must be 1 or more"),
        ({"input_tokens": [1, 1], "output_tokens": [1, 1], "arrival_s": [1.0, 0.5]}, "in order"),
        ({"input_tokens": [1], "output_tokens": [1], "arrival_s": [-1.0]}, "from zero on"),
    ],
)
def test_requests_that_make_no_sense_are_refused(columns: dict[str, object], message: str) -> None:
    arrays = {name: np.array(v) if isinstance(v, list) else v for name, v in columns.items()}
    with pytest.raises(InputError, match=message):
        Requests(**arrays)
