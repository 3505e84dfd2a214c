import gzip
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings

from simulator.engine.streams import run_step
from simulator.step.perfetto import trace, write_trace
from step.programs import contended_programs, overlapped_step


def events(found, phase):
    return [event for event in found["traceEvents"] if event["ph"] == phase]


def by_thread(found):
    threads = {}
    for event in events(found, "X"):
        threads.setdefault((event["pid"], event["tid"]), []).append(event)
    return threads


def test_ranks_are_processes_and_streams_are_threads():
    found = trace(run_step(overlapped_step()))
    names = {
        (e["pid"], e["tid"]): e["args"]["name"] for e in events(found, "M") if e["name"] == "thread_name"
    }
    assert names == {
        (rank, tid): n for rank in (0, 1) for tid, n in enumerate(["step", "compute", "communication"])
    }
    ranks = [e["args"]["name"] for e in events(found, "M") if e["name"] == "process_name"]
    assert ranks == ["rank 0", "rank 1"]


def test_a_span_carries_its_times_in_microseconds_and_its_tallies():
    found = trace(run_step(overlapped_step()))
    experts = next(event for event in events(found, "X") if event["name"] == "experts")
    assert (experts["ts"], experts["dur"]) == pytest.approx((5000.0, 4000.0))
    assert experts["args"] == {
        "kind": "compute",
        "component": "moe",
        "bound": "memory",
        "flop": 4e9,
        "bytes": 0.0,
        "energy_j": 4.0,
    }


def test_counters_show_what_is_drawn_together():
    # rank 0: attn 3 J in 3 ms; shared 2 J in 2 ms beside combine 0.5 J in 3 ms; nothing at the end
    found = trace(run_step(overlapped_step()))
    power = {
        round(event["ts"]): event["args"]["power_w"]
        for event in events(found, "C")
        if event["name"] == "power_w" and event["pid"] == 0
    }
    assert power == pytest.approx(
        {0: 1000, 3000: 250, 5000: 1000, 9000: 1000 + 500 / 3, 11000: 500 / 3, 12000: 1000, 13000: 0}
    )


@given(contended_programs())
def test_spans_nest_touch_without_overlap_and_end_with_the_makespan(program):
    run = run_step(program)
    threads = by_thread(trace(run))
    for spans in threads.values():
        assert all(first["ts"] + first["dur"] <= then["ts"] for first, then in pairwise(spans))
    for rank in range(program.n_ranks):
        (step,) = threads[rank, 0]
        ends = [
            span["ts"] + span["dur"] for (pid, _), spans in threads.items() for span in spans if pid == rank
        ]
        assert step["ts"] == 0.0
        assert max(ends) == step["dur"] == pytest.approx(run.makespan_s * 1e6, rel=1e-9, abs=1e-6)


@settings(max_examples=20)
@given(contended_programs())
def test_energy_of_the_trace_is_that_of_the_program(program):
    spans = [event for event in events(trace(run_step(program)), "X") if event["cat"] != "step"]
    total_j = program.n_ranks * sum(op.energy_j for op in program.operators)
    assert sum(span["args"]["energy_j"] for span in spans) == pytest.approx(total_j)


@pytest.mark.parametrize(
    ("name", "read"), [("step.json", lambda data: data), ("step.json.gz", gzip.decompress)]
)
def test_a_file_holds_the_trace_and_the_same_run_gives_the_same_bytes(tmp_path, name, read):
    run = run_step(overlapped_step())
    write_trace(run, tmp_path / name, name="decode")
    first = (tmp_path / name).read_bytes()
    assert json.loads(read(first)) == json.loads(json.dumps(trace(run, name="decode")))
    write_trace(run_step(overlapped_step()), tmp_path / name, name="decode")
    assert (tmp_path / name).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failed_write_leaves_the_old_file_and_nothing_half_written(tmp_path, monkeypatch):
    path = tmp_path / "step.json"
    path.write_text("old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_trace(run_step(overlapped_step()), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step.json"]
    assert path.read_text() == "old"
