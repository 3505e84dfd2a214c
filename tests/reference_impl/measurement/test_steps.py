from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from hardware_specs.records.errors import InputError
from model_graphs.placement import Place, PlacementPlan
from model_graphs.runs.trace_io import trace_from_json, trace_to_json
from reference_impl.measurement import steps
from reference_impl.measurement.call_catalogue import CataloguedCall
from reference_impl.measurement.request import MeasurementRequest
from reference_impl.measurement.steps import measure_step, timeline

REQUEST = MeasurementRequest("deepseek-v3", past_tokens=16, n_layers=2, repeats=3, warm_up=1, n_threads=1)


@pytest.fixture(scope="module")
def measured():
    return measure_step(REQUEST)


def test_spans_lie_in_order_inside_the_step_and_none_is_empty(measured):
    spans = measured.run.spans
    assert all(span.end_s > span.start_s for span in spans)
    assert all(a.end_s <= b.start_s for a, b in pairwise(spans))
    assert spans[0].start_s >= 0.0
    assert spans[-1].end_s <= measured.run.makespan_s
    assert len(measured.spreads) == len(spans)


def test_a_measured_step_survives_its_file(measured):
    assert trace_from_json(trace_to_json(measured)) == measured


def test_no_operator_claims_energy_of_its_own(measured):
    assert all(span.energy_j is None for span in measured.run.spans)


def test_threads_are_as_before_afterwards(measured):
    before = torch.get_num_threads()
    found = measure_step(replace(REQUEST, n_threads=before + 1, repeats=1))
    assert found.machine.n_threads == before + 1
    assert torch.get_num_threads() == before


def test_the_input_hash_is_of_the_request_not_of_the_clock(measured):
    again = measure_step(REQUEST)
    assert again.input_hash == measured.input_hash
    assert measure_step(replace(REQUEST, repeats=1)).input_hash != measured.input_hash


def test_progress_goes_over_all_repeats():
    ticks = []
    measure_step(REQUEST, lambda done, total: ticks.append((done, total)))
    assert ticks == [(0, 3), (1, 3), (2, 3)]


def test_cold_caches_are_swept_before_every_reading(monkeypatch):
    sweeps = []
    monkeypatch.setattr(steps, "_eviction", lambda machine, request: lambda: sweeps.append(1))
    measure_step(replace(REQUEST, cold_caches=True))
    assert len(sweeps) == 2 * REQUEST.repeats


def test_a_sweep_is_twice_the_last_level_cache(measured, monkeypatch):
    sizes = []
    zeros = torch.zeros
    monkeypatch.setattr(steps.torch, "zeros", lambda size, **kwargs: sizes.append(size) or zeros(1))
    steps._eviction(replace(measured.machine, cache_bytes=1000), replace(REQUEST, cold_caches=True))()
    assert sizes == [2000]


def test_cold_caches_of_unknown_size_are_refused(measured):
    machine = replace(measured.machine, cache_bytes=None)
    with pytest.raises(InputError, match="how large its last-level cache is"):
        steps._eviction(machine, replace(REQUEST, cold_caches=True))


def test_the_timeline_is_made_of_median_gaps_and_median_calls():
    calls = [CataloguedCall(name, "linear", "mlp", 1.0, 2.0) for name in ("a", "b")]
    # gaps and calls of three repeats: 1 [2] 1 [4] 1, then 2 [3] 1 [9] 1, then 1 [8] 1 [5] 3
    marks = np.array([[0, 1, 3, 4, 8, 9], [0, 2, 5, 6, 15, 16], [0, 1, 9, 10, 15, 18]], dtype=float)
    run, spreads = timeline(calls, marks)
    assert [(span.start_s, span.end_s) for span in run.spans] == [(1.0, 4.0), (5.0, 10.0)]
    assert run.makespan_s == 11.0
    assert [(one.low_s, one.median_s, one.high_s) for one in spreads] == [(2.0, 3.0, 8.0), (4.0, 5.0, 9.0)]


def test_what_crosses_is_that_of_one_step():
    plan = PlacementPlan.parse("head=gpu,rest=cpu")
    placed = measure_step(replace(REQUEST, placement=plan, mapped={Place.GPU: Place.CPU}))
    assert placed.crossing_bytes == {
        "cpu>gpu": 512 * 4
    }  # the stream of one token of the narrow width in fp32
    assert placed.subject.placement == str(plan)
    assert trace_from_json(trace_to_json(placed)) == placed
