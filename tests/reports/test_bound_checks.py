import pytest

from reports.audit_checks import Finding, Ruling
from reports.bound_checks import PipelineGainCheck, WeightReadCheck


def judged(model: str, tokens_per_s: float = 15, memory_bytes: float = 64e9) -> Finding:
    return WeightReadCheck(
        name="weight_read",
        model=model,
        precision="int8",
        memory_bytes=memory_bytes,
        bandwidth_bytes_per_s=204.8e9,
        tokens_per_s=tokens_per_s,
    ).run()


def test_r1_is_ten_times_too_large_for_the_board() -> None:
    """671 B parameters at a byte, embedding and head at two: 672.9 GB of 64."""
    finding = judged("deepseek-r1")
    assert (finding.ruling, finding.binding) == (Ruling.CONTRADICTED, "memory size")
    assert finding.factor == pytest.approx(10.5, rel=0.02)


def test_a_distilled_model_is_bound_by_the_bytes_a_token_reads() -> None:
    """8B: 7.0 B linear parameters at a byte and a head of 0.525 B at two are about 8 GB: some 25 tokens/s."""
    assert judged("r1-distill-llama-8b").ruling is Ruling.PLAUSIBLE
    slow = judged("r1-distill-llama-8b", tokens_per_s=50)
    assert (slow.ruling, slow.binding) == (Ruling.CONTRADICTED, "memory bandwidth")
    assert slow.factor == pytest.approx(50 / 25.5, rel=0.03)


def test_a_mixture_reads_its_chosen_experts_alone() -> None:
    """37 B of 671 B parameters: at 204.8 GB/s about 5 tokens/s, were the memory large enough."""
    finding = judged("deepseek-r1", tokens_per_s=5, memory_bytes=1e12)
    assert finding.ruling is Ruling.PLAUSIBLE
    assert judged("deepseek-r1", tokens_per_s=6, memory_bytes=1e12).ruling is Ruling.CONTRADICTED


def pipeline(claimed_gain: float) -> Finding:
    return PipelineGainCheck(
        name="pipeline_gain",
        model="deepseek-r1",
        system="article_r1_accelerator",
        precision="fp8",
        claimed_gain=claimed_gain,
    ).run()


def test_four_stages_never_gain_more_than_four() -> None:
    assert pipeline(4.01).ruling is Ruling.CONTRADICTED
    assert pipeline(1.5).ruling is Ruling.PLAUSIBLE


def test_one_long_stage_leaves_little_to_gain() -> None:
    """One sequence fetches for a second and computes under a millisecond: 1.0, and 2.0 with a twin."""
    reason = pipeline(2.3).reason
    assert "1 sequences 1.00 and 2.00" in reason
