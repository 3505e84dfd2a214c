"""Claims on long contexts: a mask made at run time, and steps within a limit."""

import pytest

from reports.attention_checks import RunTimeMaskCheck, StepLatencyCheck
from reports.audit import run_claims
from reports.audit_checks import Ruling

CONTEXT = 131072


def mask(model: str) -> RunTimeMaskCheck:
    return RunTimeMaskCheck(name="run_time_mask", model=model, sparse="deepseek-v3.2", context=CONTEXT)


def step(limit_ms: float) -> StepLatencyCheck:
    return StepLatencyCheck(
        name="step_latency",
        model="deepseek-v3",
        system="h200_sxm",
        gpus=8,
        precision="fp8",
        phase="decode",
        length=CONTEXT,
        limit_ms=limit_ms,
    )


def test_v3_attends_to_all_tokens_and_reads_so_much_more() -> None:
    finding = mask("deepseek-v3").run()
    assert finding.ruling is Ruling.CONTRADICTED
    # latents of 1152 bytes; sparse attention reads 2048 of them and 132 bytes of index keys for every token
    assert finding.factor == pytest.approx(1152 * CONTEXT / (1152 * 2048 + 132 * CONTEXT))
    assert "70272*B*(T + 1)" in finding.reason  # 61 layers


def test_v32_makes_its_mask_at_run_time() -> None:
    finding = mask("deepseek-v3.2").run()
    assert finding.ruling is Ruling.SUPPORTED
    assert finding.factor is None


def test_a_limit_decides_by_the_whole_interval() -> None:
    found = step(1e3).run().predicted
    assert found is not None
    assert found.unit == "s"
    assert step(found.high * 1.01e3).run().ruling is Ruling.SUPPORTED
    assert step(found.value * 1e3).run().ruling is Ruling.PLAUSIBLE
    missed = step(found.low * 0.99e3).run()
    assert missed.ruling is Ruling.CONTRADICTED
    assert missed.factor == pytest.approx(found.value / (found.low * 0.99))


def test_the_claim_is_contradicted_by_the_published_architecture_and_not_by_the_context() -> None:
    (verdict,) = run_claims(["A2"])
    rulings = [figure.finding.ruling for figure in verdict.figures]
    assert rulings[0] is verdict.ruling is Ruling.CONTRADICTED
    assert rulings[1] is Ruling.SUPPORTED
