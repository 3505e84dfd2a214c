from pathlib import Path

import pytest
import yaml

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError
from hardware_specs.records.evidence import Grade
from hardware_specs.records.quantities import parse_quantity
from simulator.costs.calibration import (
    CONSTANTS_OF_FAMILY,
    CalibrationFile,
    EntryFile,
    constants_as_written,
    read_constants,
    shipped_calibrations,
)
from simulator.costs.figures import DeviceFigures
from simulator.costs.gemm import GemmConstants
from simulator.costs.numerics import constant_specs

FOLDER = Path(__file__).resolve().parents[3] / "hardware_specs" / "calibrations"
FILES = sorted(FOLDER.glob("kernels_*.yaml"))


def entry(**changes: object) -> EntryFile:
    constants = constants_as_written(GemmConstants())
    names = {"family": "gemm", "dtype": "bf16", "kernel": "x", "source": "s", "kind": "fitted"}
    known = {**names, "n_points": 1, "n_sites": 1, "log_half_width": 0.2, "constants": constants}
    return EntryFile.model_validate({**known, **changes})


def figures(key: str) -> DeviceFigures:
    return DeviceFigures.from_system(load_system(key))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_calibration_was_fitted_on_the_figures_of_its_device(file: Path) -> None:
    fitted_on = CalibrationFile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    device = figures(fitted_on.device)
    assert fitted_on.architecture == device.architecture
    known = {
        "n_sm": (device.n_sm, "dimensionless"),
        "clock": (device.clock_hz, "hz"),
        "l2": (device.l2_bytes, "bytes"),
        "bandwidth": (device.bandwidth_bytes_per_s, "bytes_per_s"),
        "scale_up_link": (device.scale_up_bytes_per_s, "bytes_per_s"),
    }
    for name, (value, dimension) in known.items():
        assert parse_quantity(str(fitted_on.figures[name]), dimension) == pytest.approx(value, rel=1e-5), name


#: what the package has no table of, by architecture
_EXCHANGES = {"ep_low_latency", "ep_bulk"}
_INDEXERS = {"index_scores", "index_choice", "sparse_attention"}
_ABSENT = {
    "ampere": _EXCHANGES | _INDEXERS | {"quantize", "encoder_attention"},
    "ada": _EXCHANGES | _INDEXERS,
    "blackwell_rtx": _EXCHANGES | _INDEXERS,
    "hopper": set(),
    "blackwell": set(),
}
_ON_INTEL = {"gemm", "attention_prefill", "attention_decode", "moe", "oneccl", "bandwidth"}


def test_every_family_is_calibrated_on_every_device_that_has_its_tables() -> None:
    for device in shipped_calibrations().devices:
        families = {entry.family for entry in device.entries}
        if device.architecture == "xe2":
            assert families == _ON_INTEL
            continue
        expected = set(CONSTANTS_OF_FAMILY) - {"oneccl"} - _ABSENT[device.architecture]
        if device.device != "gb200":
            expected -= {"ep_nvlink"}
        assert families == expected, device.device


def test_every_shipped_constant_is_positive() -> None:
    for device in shipped_calibrations().devices:
        for known in device.entries:
            for spec in constant_specs(type(known.constants)):
                assert getattr(known.constants, spec.name) > 0, (known.device, known.family, spec.name)


@pytest.mark.parametrize("family", CONSTANTS_OF_FAMILY)
def test_constants_survive_writing_and_reading(family: str) -> None:
    written = constants_as_written(CONSTANTS_OF_FAMILY[family]())
    again = read_constants(entry(family=family, constants=written), "x.yaml")
    assert constants_as_written(again) == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "gemn"}, "did you mean gemm"),
        (
            {"constants": {"launch_s": "1 us"}},
            "must be exactly those of the family; given bandwidth_efficiency",
        ),
        (
            {"constants": constants_as_written(GemmConstants()) | {"launch_s": 3.0}},
            "must be a number with a unit of s; given '3.0'",
        ),
    ],
)
def test_a_wrong_entry_says_what_must_hold(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_constants(entry(**changes), "kernels_x.yaml")


BLACKWELL = {"b200_sxm", "gb200", "b300_sxm", "gb300"}


def test_the_nearest_generation_stands_in() -> None:
    calibrations = shipped_calibrations()

    def source(architecture: str) -> tuple[str, Grade]:
        device = DeviceFigures("new", architecture, 100, 1e9, 5e7, 1e12, {"bf16": 1e15})
        choice = calibrations.find(device, "gemm", "bf16", ("cublas",))
        return choice.calibrated.device, choice.grade

    assert source("ampere") == ("a100_sxm_80gb", Grade.C)
    assert source("hopper")[0] == "h100_sxm and h200_sxm"
    assert source("volta") == ("a100_sxm_80gb", Grade.C)
    assert set(source("unheard-of")[0].split(" and ")) <= BLACKWELL
    assert source("unheard-of")[1] is Grade.D


def test_a_kernel_that_nobody_calibrated_is_refused() -> None:
    with pytest.raises(InputError, match="must be calibrated on some device: gemm fp64"):
        shipped_calibrations().find(figures("h200_sxm"), "gemm", "fp64", ("cublas",))
