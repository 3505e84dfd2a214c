"""Engines as data: what a file must say; the shipped ones have the peaks and powers of their papers."""

from pathlib import Path

import pytest

from hardware_specs.checks import check_file
from hardware_specs.engines import EngineSpec
from hardware_specs.library import load_device, load_system
from hardware_specs.records.errors import InputError
from hardware_specs.records.quantities import Kind
from reports.figures import figures_of

PACKAGE = Path(__file__).resolve().parents[2] / "hardware_specs"
WHAT_IF = sorted((PACKAGE / "what_if").glob("*.yaml"))
ENGINES = [*(file.stem for file in WHAT_IF), "article_r1_accelerator"]


def engine_of(key: str) -> EngineSpec:
    engine = load_device(key).engine
    assert engine is not None
    return engine


@pytest.mark.parametrize("key", ENGINES)
def test_an_engine_is_sourced_falls_back_and_says_what_it_cannot_do(key: str) -> None:
    engine = engine_of(key)
    figures = list(figures_of(engine))
    assert len(figures) > 5
    assert all(figure.source.strip() and isinstance(figure.kind, Kind) for _, figure in figures)
    assert len(engine.limits) >= 3
    assert set(engine.dtypes) <= set(load_device(key).peak_flop_per_s)


@pytest.mark.parametrize("file", WHAT_IF, ids=lambda file: file.stem)
def test_a_device_that_nobody_sells_is_a_system_by_itself_and_says_what_is_assumed(file: Path) -> None:
    assert load_system(file.stem).cluster.key == "default_cluster"
    lines = check_file(file)
    assert any(line.startswith("engine.launch = 1 us (silicast, reasoned") for line in lines)
    assert not any("not given" in line for line in lines if line.startswith("engine."))


def test_the_photonic_engine_has_the_rate_and_the_power_of_its_paper() -> None:
    # 65.5 TOP/s at 78 W and 1.6 W of light (Nature 640, 368)
    engine = engine_of("photonic_matrix_engine")
    array, conversion = engine.array, engine.conversion
    assert array is not None
    assert conversion is not None
    assert array.peak_flop_per_s == pytest.approx(65.5e12, rel=0.01)
    vectors = array.count.value * array.vector_rate.value
    converters = conversion.input_energy.value * array.rows.value
    converters += conversion.output_energy.value * array.columns.value
    multiplied_w = engine.energy_per_mac.value * array.peak_flop_per_s / 2
    assert engine.static_power.value + multiplied_w + vectors * converters == pytest.approx(79.6, rel=0.01)


def test_the_compute_in_memory_engine_has_the_rate_and_the_efficiency_of_its_paper() -> None:
    # 63.1 TOP/s and 9.76 TOP/s/W a chip of 64 cores (Nature Electronics 6, 680)
    engine = engine_of("cim_engine")
    assert engine.array is not None
    chips = engine.array.count.value / 64
    assert engine.array.peak_flop_per_s / chips == pytest.approx(63.1e12, rel=0.01)
    assert 2 / engine.energy_per_mac.value == pytest.approx(9.76e12, rel=0.01)


def test_the_articles_engine_has_the_articles_figures() -> None:
    engine = engine_of("article_r1_accelerator")
    assert engine.peak_flop_per_s("bf16") == 1.2e15
    assert engine.sparsity["unstructured"].compute_gain_limit.value == 3.7
    assert {"fetch", "decompress", "compute", "compress"} <= set(engine.overlapping)


def changed(tmp_path: Path, *pairs: tuple[str, str]) -> Path:
    text = (PACKAGE / "what_if" / "photonic_matrix_engine.yaml").read_text()
    for before, after in (("key: photonic_matrix_engine", "key: mine"), *pairs):
        assert before in text
        text = text.replace(before, after)
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("dtypes: [bf16]", "dtypes: [bf16, fp8]"), "that the digital unit has a dense_peak of; given fp8"),
        (("dtypes: [bf16]", "dtypes: [bf61]"), "did you mean bf16"),
        (("operators: [linear, moe_experts]", "operators: [attention]"), "must be 'linear' or 'moe_experts'"),
        (("  array:", "  peak: {}\n  array:"), "exactly one of peak and array must be given"),
        (("overlapping: [fetch, load,", "overlapping: [fetch, lode,"), "overlapping"),
        (("    rows:", "    row:"), "rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_engine_is_said_with_its_place(
    tmp_path: Path, pair: tuple[str, str], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_file(changed(tmp_path, pair))
    shown = str(caught.value)
    assert said in shown
    assert "mine.yaml:" in shown
