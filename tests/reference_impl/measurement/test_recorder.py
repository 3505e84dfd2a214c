import pytest
import torch
from counting import KernelCounter
from tiny import TINY, positions_of, randomise

from reference_impl.decoder import build_model
from reference_impl.measurement.clocks import CpuClock, CudaClock, clock_of
from reference_impl.measurement.recorder import Recorder


class Ticks:
    """A clock that counts its marks."""

    def __init__(self):
        self.now = 0

    def mark(self):
        self.now += 1
        return self.now

    def seconds(self, marks):
        return [float(mark - marks[0]) for mark in marks]


def test_every_kernel_call_has_a_start_and_an_end_and_nothing_else_is_marked():
    model = build_model(TINY.blueprint)
    randomise(model)
    ids = torch.randint(TINY.vocab_size, (2, 5))
    with KernelCounter() as counter:
        wanted, *_ = model(ids, positions_of(ids))
    with Recorder(Ticks()) as recorder:
        given, *_ = model(ids, positions_of(ids))
    assert recorder.marks == list(range(1, 2 * len(counter.calls) + 1))
    assert torch.equal(given, wanted)


def test_the_processors_clock_counts_nanoseconds_from_the_first_mark():
    assert CpuClock().seconds([5_000_000_000, 5_000_000_250, 6_000_000_000]) == pytest.approx(
        [0.0, 250e-9, 1.0], rel=1e-12
    )
    clock = CpuClock()
    first, second = clock.mark(), clock.mark()
    assert second >= first


def test_events_are_read_after_the_device_has_passed_them(monkeypatch):
    done = []

    class Event:
        made = 0

        def __init__(self, enable_timing):
            assert enable_timing
            Event.made += 1
            self.at_ms, self.recorded = Event.made * 10.0, False

        def record(self):
            self.recorded = True

        def elapsed_time(self, later):
            assert done, "an event must not be read before the device has passed it"
            assert later.recorded
            return later.at_ms - self.at_ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append(True))
    clock = CudaClock()
    assert clock.seconds([clock.mark(), clock.mark(), clock.mark()]) == [0.0, 0.01, 0.02]


def test_a_step_on_both_devices_is_timed_when_the_gpu_is_done(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    clock = clock_of("cuda", placed=True)
    marks = [clock.mark(), clock.mark()]
    assert len(waited) == 2
    assert clock.seconds(marks)[1] >= 0.0
    assert type(clock_of("cpu", placed=True)) is CpuClock
    assert type(clock_of("cuda")) is CudaClock
