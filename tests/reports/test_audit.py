import json
from dataclasses import asdict

import pytest

from hardware_specs.records.errors import InputError
from reports.audit import claims, judge, list_claims, run_claims, severest
from reports.audit_checks import Ruling


def test_the_claims_are_there_in_the_order_of_the_article() -> None:
    assert list_claims() == (
        *("A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9"),
        *("B1", "B4", "B5", "B6"),
        *("C2", "C3", "C4", "C6", "C8"),
        *("D1", "D2", "D3"),
        *("E4", "E5"),
    )


def test_every_claim_has_a_verdict_with_a_run_a_bound_or_a_citation_behind_it() -> None:
    for verdict in run_claims():
        assert verdict.ruling is verdict.deciding.finding.ruling
        for figure in verdict.figures:
            finding = figure.finding
            assert finding.reason
            assert finding.run != "none" or finding.ruling is Ruling.NOT_TESTABLE
            if finding.ruling is Ruling.CONTRADICTED:
                assert finding.factor is not None
                assert finding.factor > 1
                assert finding.binding


def test_a_verdict_can_be_written_as_json() -> None:
    (verdict,) = run_claims(["A9"])
    assert json.loads(json.dumps(asdict(verdict)))["ruling"] == "contradicted"


def test_claims_go_by_identifier_in_either_case_and_in_the_order_asked() -> None:
    assert [verdict.claim for verdict in run_claims(["a9", "A4"])] == ["A9", "A4"]


def test_unknown_claims_are_all_named() -> None:
    with pytest.raises(InputError) as caught:
        run_claims(["A4", "Z1", "C5"])
    assert [problem.given for problem in caught.value.problems] == ["Z1", "C5"]


def test_judging_twice_says_the_same() -> None:
    assert judge(claims()["A4"]) == judge(claims()["A4"])


@pytest.mark.parametrize(
    ("rulings", "expected"),
    [
        (["supported", "contradicted", "not testable"], "contradicted"),
        (["supported", "plausible"], "plausible"),
        (["not testable", "supported"], "supported"),
        (["not testable"], "not testable"),
    ],
)
def test_one_contradicted_figure_contradicts_a_claim(rulings: list[str], expected: str) -> None:
    assert severest(Ruling(ruling) for ruling in rulings) == expected


def test_four_a100_do_not_hold_v3_and_memory_is_what_binds() -> None:
    (verdict,) = run_claims(["C4"])
    finding = verdict.deciding.finding
    assert verdict.ruling is Ruling.CONTRADICTED
    assert "memory" in finding.binding
    # 671e9 weights of half a byte and more over 4 devices are over 84 GB; a device has 85.9 GB for everything
    assert finding.factor is not None
    assert 1.0 < finding.factor < 3.0


def test_the_article_is_off_the_published_configuration_by_its_intermediate_size() -> None:
    (verdict,) = run_claims(["A5"])
    assert verdict.ruling is Ruling.CONTRADICTED
    assert verdict.deciding.finding.factor == pytest.approx(
        65536 / 18432
    )  # hidden is off by 16384 / 7168 = 2.29


def test_hbm3e_is_seven_times_what_the_article_gives_it() -> None:
    (verdict,) = run_claims(["A9"])
    peak, memory, stack, *sparsity = (figure.finding for figure in verdict.figures)
    assert peak.ruling is Ruling.PLAUSIBLE
    assert memory.factor == pytest.approx(4800 / 680)
    assert stack.factor == pytest.approx(800 / 680)  # 4.8 TB/s over six stacks
    assert [finding.ruling for finding in sparsity] == [Ruling.CONTRADICTED] * 2


def test_every_layer_of_r1_that_moves_to_one_h100_makes_a_step_faster_until_memory_ends() -> None:
    (verdict,) = run_claims(["C8"])
    finding = verdict.deciding.finding
    assert verdict.ruling is Ruling.SUPPORTED
    assert finding.binding == "memory of one NVIDIA H100 SXM5 80 GB"
    assert "0 layers" in finding.reason
    assert "61 layers" in finding.reason
    # 85.5 GB of which 90% are usable, over 11.5 GB a layer of 256 experts of 3 x 7168 x 2048 bytes
    assert "6 layers fit" in finding.reason
    assert "experts=cpu,rest=gpu takes" in finding.reason
