from pathlib import Path

import pytest

from hardware_specs.checks import check_file
from hardware_specs.forms import MemoryForm
from hardware_specs.library import Library, library, load_memory
from hardware_specs.parts import MemorySpec
from hardware_specs.records.errors import InputError
from hardware_specs.records.quantities import Kind

MEMORY = """\
schema_version: 1
part: memory
key: mine
name: Four stacks of mine
family: hbm3
unit_count: {value: 4, unit: "1", source: my drawing, kind: datasheet}
pin_rate: {value: 6, unit: Gbit/s, source: a guess, kind: assumed}
capacity: {value: 64, unit: GiB, source: my driver, kind: measured}
"""
PUBLISHED = "bandwidth: {value: %s, unit: TB/s, source: my leaflet, kind: datasheet}\n"
BUILT = [key for key in library().keys("memory") if library().form(MemoryForm, key).family]


def read(folder: Path, text: str) -> MemorySpec:
    (folder / "mine.yaml").write_text(text)
    return Library((folder,)).memory("mine")


def test_bandwidth_is_units_times_pins_times_rate(tmp_path: Path) -> None:
    # 4 stacks x 1024 pins x 6 Gbit/s = 24.576 Tbit/s = 3.072 TB/s
    bandwidth = read(tmp_path, MEMORY).bandwidth_bytes_per_s
    assert bandwidth.value == pytest.approx(3.072e12)
    assert bandwidth.kind is Kind.ASSUMED  # as the rate of the pins is
    assert bandwidth.source == "computed: 4 stacks x 1024 pins x 6 Gbit/s"


def test_an_efficiency_takes_its_share(tmp_path: Path) -> None:
    share = 'efficiency: {value: 0.9, unit: "1", source: my log, kind: measured}\n'
    memory = read(tmp_path, MEMORY + share)
    assert memory.bandwidth_bytes_per_s.value == pytest.approx(0.9 * 3.072e12)


def test_a_published_bandwidth_is_the_one_that_is_used(tmp_path: Path) -> None:
    memory = read(tmp_path, MEMORY + PUBLISHED % 3.05)
    assert memory.bandwidth_bytes_per_s.value == 3.05e12
    assert memory.bandwidth_bytes_per_s.source == "my leaflet"


def test_a_published_bandwidth_that_pins_do_not_give_is_an_error_naming_both(tmp_path: Path) -> None:
    text = MEMORY + PUBLISHED % 3.2
    expected = r"mine\.yaml:9:12  bandwidth  must be within 2% of 3072 GB/s .*given 3.2 TB/s"
    with pytest.raises(InputError, match=expected):
        read(tmp_path, text)
    with pytest.raises(InputError, match=expected):
        check_file(tmp_path / "mine.yaml")
    explained = text + "bandwidth_explained: rounded up by my marketing\n"
    assert read(tmp_path, explained).bandwidth_bytes_per_s.value == 3.2e12


def test_a_pin_is_no_faster_than_its_family(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pin_rate  must be a rate of HBM3 \(4.8 Gbit/s to 6.4 Gbit/s\)"):
        read(tmp_path, MEMORY.replace("value: 6,", "value: 9,"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("family: hbm3", "technology: SRAM"), "must have bandwidth, and neither unit_count nor pin_rate"),
        (("family: hbm3", ""), "must have either family or technology"),
        (("unit_count: {value: 4,", "efficiency: {value: 1,"), "must have unit_count and pin_rate beside"),
        (("family: hbm3", "family: hbm33"), "must be the key of a dram; given hbm33; did you mean hbm3?"),
    ],
)
def test_a_memory_is_of_a_family_or_of_a_technology(
    tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, MEMORY.replace(*change))
    assert expected in str(caught.value)


@pytest.mark.parametrize("key", BUILT)
def test_pins_give_every_bandwidth_that_is_not_explained(key: str) -> None:
    form, memory = library().form(MemoryForm, key), load_memory(key)
    assert memory.dram is not None and memory.n_units is not None and memory.pin_rate_bytes_per_s is not None
    pins = memory.n_units.value * memory.dram.data_pins.value * memory.pin_rate_bytes_per_s.value
    share = form.efficiency.value if form.efficiency else 1.0
    within = 0.2 if form.bandwidth_explained else 0.02
    assert memory.bandwidth_bytes_per_s.value == pytest.approx(pins * share, rel=within)


def test_pins_of_known_devices() -> None:
    # bits x Gbit/s a pin / 8: 5120 x 3.186 = 2039 GB/s, 5120 x 5.24 = 3354 GB/s, 8192 x 7.5 = 7680 GB/s
    for key, expected in (
        ("hbm2e_a100_80gb", 2.039e12),
        ("hbm3_h100_80gb", 3.354e12),
        ("hbm3e_b200_180gb", 7.68e12),
    ):
        assert load_memory(key).bandwidth_bytes_per_s.value == pytest.approx(expected, rel=0.003)


def test_a_newer_family_is_never_narrower_or_slower() -> None:
    for generations in (("hbm2", "hbm2e", "hbm3", "hbm3e", "hbm4"), ("gddr6", "gddr6x", "gddr7"),
                        ("lpddr4x", "lpddr5", "lpddr5x"), ("ddr4", "ddr5")):  # fmt: skip
        drams = [library().dram(key) for key in generations]
        rates = [dram.data_pins.value * dram.pin_rate_max_bytes_per_s.value for dram in drams]
        assert rates == sorted(rates)
        energies = [dram.energy_j_per_byte.value for dram in drams]
        assert energies == sorted(energies, reverse=True)


def test_energy_of_a_byte_is_eight_times_that_of_a_bit() -> None:
    energy = load_memory("hbm3e_h200_141gb").energy_j_per_byte
    assert energy is not None
    assert energy.value == pytest.approx(8 * 3.9e-12)
