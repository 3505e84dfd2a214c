"""Headline claims of engines, reproduced or refuted by simulated steps of a model."""

import json
from pathlib import Path

import pytest

import hardware_specs
from reports.audit import claims, judge
from reports.audit_checks import Ruling
from reports.cli.main import main
from simulator.scenario.model import Deployment
from simulator.step_forecast import StepForecast, forecast_step

WHAT_IF = Path(hardware_specs.__file__).parent / "what_if"


def step(system: str, phase: str = "decode", precision: str = "bf16", pruning: str = "") -> StepForecast:
    deployment = Deployment(
        model="llama-3.1-8b",
        system=system,
        gpus=1,
        tp=1,
        precision=precision,
        pruning=pruning,
        stack="vllm",
    )
    return forecast_step(deployment, phase, 1, 2048)


def test_a_photonic_engine_costs_energy_where_60_percent_less_is_promised() -> None:
    plain, photonic = step("a100_sxm_80gb"), step("photonic_matrix_engine")
    assert photonic.energy_j.value > 2 * plain.energy_j.value
    # 0.82 TOP/s/W of the processor; a step that decodes uses each loaded weight once
    assert photonic.work.flop / photonic.energy_j.high < photonic.work.flop / photonic.energy_j.low < 0.82e10
    verdict = judge(claims()["E4"])
    saving, efficiency = (figure.finding for figure in verdict.figures)
    assert (saving.ruling, efficiency.ruling) == (Ruling.CONTRADICTED, Ruling.CONTRADICTED)
    assert saving.factor is not None
    assert saving.factor > 2
    assert efficiency.factor is not None
    assert efficiency.factor > 100


def test_arithmetic_is_a_hundredth_of_the_energy_of_a_decode_step() -> None:
    reason = judge(claims()["E4"]).figures[0].finding.reason
    share = float(reason.split("decode")[1].split("%")[0].split()[-1])
    assert share < 2


def test_compute_in_memory_saves_energy_and_is_far_from_the_efficiency_of_its_chip() -> None:
    plain, cim = step("a100_sxm_80gb", precision="int8"), step("cim_engine", precision="int8")
    assert cim.latency.value < plain.latency.value / 2
    efficiency, saving = (figure.finding for figure in judge(claims()["E5"]).figures)
    assert efficiency.ruling is Ruling.CONTRADICTED
    assert efficiency.factor is not None
    assert efficiency.factor > 100
    assert saving.ruling is Ruling.PLAUSIBLE
    assert saving.predicted is not None
    assert 0.5 < saving.predicted.value < 0.9


def test_one_chip_loads_the_model_in_every_step_and_takes_most_of_a_minute(tmp_path: Path) -> None:
    # 7 billion weights of 8 bits at 164 MB/s
    text = (WHAT_IF / "cim_engine.yaml").read_text().replace("key: cim_engine", "key: one_chip")
    text = text.replace("{value: 131072,", "{value: 64,").replace(
        "{value: 335, unit: GB/s", "{value: 164, unit: MB/s"
    )
    (tmp_path / "one_chip.yaml").write_text(text)
    one = step(str(tmp_path / "one_chip.yaml"), precision="int8")
    assert 20e3 < one.latency.value < 60e3


@pytest.mark.parametrize(("zeros", "gain"), [("0.5", 1.0), ("0.7", 1.28), ("0.9", 1.77)])
def test_a_whole_step_gains_less_than_its_products(zeros: str, gain: float) -> None:
    # products gain 1.0, 1.37 and 2.14; attention, norms and launches gain nothing
    dense = step("unstructured_sparse_engine").latency.value
    found = dense / step("unstructured_sparse_engine", pruning=zeros).latency.value
    assert found == pytest.approx(gain, abs=0.05)


def test_the_gain_of_3_7_is_contradicted_at_zeros_that_cost_no_accuracy() -> None:
    *_, article, measured = (figure.finding for figure in judge(claims()["A9"]).figures)
    for finding in (article, measured):
        assert finding.ruling is Ruling.CONTRADICTED
        assert finding.factor is not None
        assert finding.factor > 2


def test_the_articles_pipeline_gains_less_than_2_3_over_stages_one_by_one(tmp_path: Path) -> None:
    # fetching and decompressing take as long, and nothing else of a decode step takes much
    text = (WHAT_IF.parent / "devices" / "article_r1_accelerator.yaml").read_text()
    text = text.replace("key: article_r1_accelerator", "key: serial")
    (tmp_path / "serial.yaml").write_text(
        text.replace("[fetch, decompress, compute, compress, store]", "[]").replace(
            "aliases: [article-r1-accelerator]", "aliases: []"
        )
    )
    serial, pipelined = step(str(tmp_path / "serial.yaml")), step("article_r1_accelerator")
    gain = serial.latency.value / pipelined.latency.value
    assert 1.5 < gain < 2.3


def test_zeros_gain_nothing_on_a_device_that_does_not_skip_them() -> None:
    dense, pruned = step("a100_sxm_80gb"), step("a100_sxm_80gb", pruning="0.7")
    assert (dense.latency, dense.energy_j, dense.work) == (pruned.latency, pruned.energy_j, pruned.work)


def test_the_energy_of_the_spans_and_of_the_work_agree() -> None:
    one = step("photonic_matrix_engine")
    spans_j = sum(span.energy_j or 0.0 for span in one.run.spans)
    assert one.energy_j.value == pytest.approx(spans_j)
    assert 0 < one.work.engine_j < one.energy_j.value


def test_the_interval_is_wide_where_the_engine_takes_the_time() -> None:
    plain, photonic = step("a100_sxm_80gb").latency, step("photonic_matrix_engine").latency
    assert photonic.grade == "D"
    assert photonic.high / photonic.low > 2 * plain.high / plain.low


def test_the_command_serves_a_pruned_model_on_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", "llama-3.1-8b", "--tp", "1", "--precision", "bf16", "--stack", "vllm"]
    flags += ["--isl", "512", "--osl", "64", "--concurrency", "4", "--json"]
    tpot, energy = [], []
    for more in ([], ["--pruning", "0.9"]):
        assert main(["simulate", "--system", "unstructured_sparse_engine", *flags, *more]) == 0
        found = json.loads(capsys.readouterr().out)
        tpot.append(found["metrics"]["tpot_median_ms"]["value"])
        energy.append(found["metrics"]["energy_j_per_token"]["value"])
        assert "digital unit (a100_sxm_80gb)" in json.dumps(found)
    assert tpot[1] < 0.7 * tpot[0]
    assert energy[1] < energy[0]


def test_a_wrong_pruning_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", "llama-3.1-8b", "--tp", "1", "--precision", "bf16", "--system", "a100_sxm_80gb"]
    for wrong in ("1.5", "half"):
        assert main(["step", *flags, "--pruning", wrong]) == 2
        assert "must be 2of4, or a fraction of zeros" in capsys.readouterr().err
