import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_specs.records.errors import InputError
from model_graphs.runs.measurement import (
    EnergyReading,
    Machine,
    MeasuredStep,
    Protocol,
    Spread,
    Subject,
    measured_span,
)
from model_graphs.runs.records import StepRun
from model_graphs.runs.trace_io import trace_from_json, trace_to_json

MACHINE = Machine("cpu", "a processor", 2**34, None, 2, "2.13.0", "Linux x86_64, Python 3.11.7")
SUBJECT = Subject("deepseek-v3", "narrow", 4, "decode", 2, 1, 512, "fp32", 0)
PROTOCOL = Protocol("2026-01-31", 2, 5, "warm", 0.5)
NO_METER = EnergyReading(None, "none", "no meter")


def measured(lengths_s: list[tuple[float, float]]) -> MeasuredStep:
    """A step of spans that each follow a gap, given as (gap, length)."""
    spans, now_s = [], 0.0
    for i, (gap_s, length_s) in enumerate(lengths_s):
        start_s = now_s + gap_s
        spans.append(
            measured_span(f"moe_layer.{i}.norm", "rmsnorm", "norm", start_s, length_s, 0.0, 4096.0 * i)
        )
        now_s = start_s + length_s
    return MeasuredStep(
        machine=MACHINE,
        subject=SUBJECT,
        protocol=PROTOCOL,
        input_hash="0123456789abcdef",
        plain=Spread(now_s, now_s, 2 * now_s),
        recorded=Spread(now_s, now_s / 2, now_s),
        energy=NO_METER,
        run=StepRun(tuple(spans), now_s, n_ranks=1),
        spreads=tuple(Spread(length_s, length_s / 2, 2 * length_s) for _, length_s in lengths_s),
    )


STEP = measured([(1e-5, 2e-4), (0.0, 3e-4)])

seconds = st.floats(1e-9, 1e3)


@given(st.lists(st.tuples(seconds, seconds), max_size=6))
def test_a_step_survives_its_file_and_the_same_step_is_the_same_bytes(
    lengths: list[tuple[float, float]],
) -> None:
    step = measured(lengths)
    text = trace_to_json(step)
    assert trace_from_json(text) == step
    assert trace_to_json(trace_from_json(text)) == text


def test_a_span_is_a_line() -> None:
    lines = trace_to_json(STEP).splitlines()
    assert sum(line.startswith('  {"name": ') for line in lines) == len(STEP.run.spans)


def changed(**changes: object) -> str:
    return json.dumps(json.loads(trace_to_json(STEP)) | changes)


def problems_of(text: str) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        trace_from_json(text, "trace.json")
    assert all(problem.file == "trace.json" for problem in caught.value.problems)
    return {problem.path: problem.requirement for problem in caught.value.problems}


def test_another_schema_version_is_refused_with_what_to_do() -> None:
    assert "silicast measure" in problems_of(changed(schema_version=2))["schema_version"]


def test_broken_json_is_placed_at_its_line() -> None:
    with pytest.raises(InputError) as caught:
        trace_from_json("{\n  nonsense", "trace.json")
    assert caught.value.problems[0].line == 2


def test_unknown_missing_and_mistyped_keys_are_all_named() -> None:
    data = json.loads(trace_to_json(STEP))
    data["subject"]["colour"] = "red"
    data["spans"][1]["flop"] = "many"
    del data["protocol"]["date"]
    found = problems_of(json.dumps(data))
    assert set(found) == {"subject.colour", "spans[1].flop", "protocol.date"}
    assert found["subject.colour"] == "is not a key here"


@pytest.mark.parametrize("joules", [0.0, -1.0])
def test_energy_is_a_positive_number_or_nothing_with_a_reason(joules: float) -> None:
    assert "energy.joules" in problems_of(changed(energy={"joules": joules, "method": "m", "reason": ""}))
    assert "energy.reason" in problems_of(changed(energy={"joules": None, "method": "none", "reason": ""}))


def test_spans_that_overlap_or_leave_the_step_are_refused_together() -> None:
    data = json.loads(trace_to_json(STEP))
    data["spans"][1]["start_s"] = 1e-6
    data["makespan_s"] = 1e-6
    assert set(problems_of(json.dumps(data))) == {"spans[1]", "makespan_s"}


def test_a_median_outside_of_its_readings_is_refused() -> None:
    assert "plain" in problems_of(changed(plain={"median_s": 2.0, "low_s": 2.5, "high_s": 3.0}))


def test_overhead_is_what_recording_adds() -> None:
    step = replace(STEP, plain=Spread(2.0, 2.0, 2.0), recorded=Spread(2.5, 2.5, 2.5))
    assert step.recording_overhead_fraction == pytest.approx(0.25)
