import pytest

from reports.audit_checks import Finding, Ruling
from reports.bound_checks import WeightReadCheck


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
