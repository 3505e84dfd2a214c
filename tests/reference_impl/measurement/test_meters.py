from pathlib import Path

import pytest

from reference_impl.measurement import meters
from reference_impl.measurement.meters import (
    NvmlCounter,
    NvmlSampler,
    RaplMeter,
    cpu_meter,
    nvml_meter,
    step_energy,
    trapezoids,
)


def write_domain(folder: Path, name: str, energy_uj: int, range_uj: int) -> Path:
    domain = folder / name
    domain.mkdir(exist_ok=True)
    (domain / "energy_uj").write_text(f"{energy_uj}\n")
    (domain / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return domain


def test_packages_are_added_and_their_parts_left_out(tmp_path: Path):
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        write_domain(tmp_path, name, 1_000_000, 10_000_000)
    meter = cpu_meter(tmp_path)
    assert isinstance(meter, RaplMeter)

    def draw() -> None:
        for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
            write_domain(tmp_path, name, 3_000_000, 10_000_000)

    assert meter.joules(draw) == pytest.approx(4.0)


def test_a_counter_that_wraps_around_goes_on_from_zero(tmp_path: Path):
    write_domain(tmp_path, "intel-rapl:0", 9_000_000, 9_999_999)
    meter = cpu_meter(tmp_path)
    assert isinstance(meter, RaplMeter)
    drawn = meter.joules(lambda: write_domain(tmp_path, "intel-rapl:0", 500_000, 9_999_999))
    assert drawn == pytest.approx(1.5)  # 1 J to the end of the range, half a joule beyond it


def test_without_a_meter_energy_is_nothing_with_a_reason_never_zero(tmp_path: Path):
    meter = cpu_meter(tmp_path)
    assert isinstance(meter, str)
    reading = step_energy(meter, lambda: None)
    assert reading.joules is None
    assert str(tmp_path) in reading.reason


def test_a_counter_that_only_root_may_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_domain(tmp_path, "intel-rapl:0", 1, 2)

    def refuse(path: Path) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(meters, "_counter", refuse)
    assert cpu_meter(tmp_path) == "RAPL counters cannot be read: Permission denied"


class Meter:
    method = "a test"

    def __init__(self, joules: float):
        self.drawn = joules

    def joules(self, run) -> float:
        run()
        return self.drawn


def test_a_window_of_steps_is_divided_by_their_number():
    steps = []
    reading = step_energy(Meter(8.0), lambda: steps.append(1), window_s=0.01)
    assert reading.joules == pytest.approx(8.0 / len(steps))


def test_a_meter_that_does_not_move_reads_nothing():
    reading = step_energy(Meter(0.0), lambda: None, window_s=0.0)
    assert reading.joules is None
    assert "did not move" in reading.reason


class Nvml:
    """As much of NVML as the meters use: a steady draw of 300 W, and a counter where there is one."""

    class NVMLError(Exception):
        pass

    def __init__(self, has_counter: bool):
        self.has_counter, self.millijoules = has_counter, 1000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if not self.has_counter:
            raise self.NVMLError("Not Supported")
        self.millijoules += 2500
        return self.millijoules

    def nvmlDeviceGetPowerUsage(self, handle):
        return 300_000


def test_a_devices_own_counter_is_read_in_millijoules():
    meter = nvml_meter(Nvml(has_counter=True), None)
    assert isinstance(meter, NvmlCounter)
    assert meter.joules(lambda: None) == pytest.approx(2.5)


def test_without_a_counter_power_is_sampled_and_integrated():
    meter = nvml_meter(Nvml(has_counter=False), None)
    assert isinstance(meter, NvmlSampler)
    from time import perf_counter, sleep

    start = perf_counter()
    joules = meter.joules(lambda: sleep(0.05))
    assert 300 * 0.05 <= joules <= 300 * (perf_counter() - start)


def test_trapezoids_are_exact_for_a_ramp():
    # 100 W rising to 300 W over 2 s, then 1 s at 300 W: 400 + 300 J
    assert trapezoids([(10.0, 100.0), (12.0, 300.0), (13.0, 300.0)]) == pytest.approx(700.0)
