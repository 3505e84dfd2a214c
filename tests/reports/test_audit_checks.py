import pytest

from reports.audit_checks import (
    CollectiveCheck,
    MemoryFitCheck,
    NotTestableCheck,
    PublishedConfigCheck,
    PublishedRangeCheck,
    Ruling,
    narrowest_fit,
)


def all_reduce(fraction: float) -> CollectiveCheck:
    return CollectiveCheck(
        name="collective_bandwidth",
        op="all_reduce",
        systems=("a100_sxm_80gb",),
        n_ranks=8,
        fraction=fraction,
        message_bytes=(2.0**16, 2.0**29),
    )


def test_a_collective_is_supported_below_plausible_inside_and_contradicted_above_its_interval() -> None:
    reached = all_reduce(0.5).run().predicted
    assert reached is not None
    assert 0 < reached.low < reached.value < reached.high
    assert all_reduce(reached.low * 0.99).run().ruling is Ruling.SUPPORTED
    assert all_reduce(reached.value).run().ruling is Ruling.PLAUSIBLE
    beyond = all_reduce(reached.high * 1.01).run()
    assert beyond.ruling is Ruling.CONTRADICTED
    assert beyond.factor == pytest.approx(reached.high * 1.01 / reached.value)


def test_the_best_message_size_is_the_large_one() -> None:
    assert "536870912" in all_reduce(0.9).run().run


def memory(system: str, gpus: int, *precisions: str) -> MemoryFitCheck:
    return MemoryFitCheck(
        name="memory_fit", model="deepseek-v3", systems=(system,), gpus=gpus, precisions=precisions
    )


def test_a_model_that_fits_supports_and_one_that_does_not_contradicts() -> None:
    assert memory("h200_sxm", 8, "fp8").run().ruling is Ruling.SUPPORTED
    short = memory("h200_sxm", 4, "fp8").run()
    assert short.ruling is Ruling.CONTRADICTED
    assert short.factor is not None
    assert short.factor > 1
    assert "nearest fit 8 x h200_sxm" in short.reason


def test_one_precision_that_fits_is_enough() -> None:
    assert memory("b200_sxm", 4, "fp8", "fp4").run().ruling is Ruling.SUPPORTED


def test_what_does_not_fit_names_a_replica_that_does() -> None:
    assert narrowest_fit("deepseek-v3", "h200_sxm", "fp8", "vllm").startswith("8 x h200_sxm")
    assert narrowest_fit("deepseek-v3", "h200_sxm", "bf16", "vllm").startswith("16 x h200_sxm")


def test_equal_configurations_support() -> None:
    check = PublishedConfigCheck(
        name="published_config",
        model="deepseek-r1",
        published="deepseek-v3",
        system="h200_sxm",
        precision="fp8",
        fields=("hidden_size", "num_attention_heads"),
    )
    finding = check.run()
    assert finding.ruling is Ruling.SUPPORTED
    assert finding.factor is None


def test_a_figure_above_all_published_ones_is_contradicted_too() -> None:
    check = PublishedRangeCheck(
        name="published_range",
        system="b200_sxm",
        figure="dense_fp16_peak",
        published=("a100_sxm_80gb", "h100_sxm"),
    )
    finding = check.run()
    assert finding.ruling is Ruling.CONTRADICTED
    assert finding.factor == pytest.approx(2250 / 989)


def test_what_cannot_be_run_says_what_it_would_need() -> None:
    finding = NotTestableCheck(name="not_testable", needs="a photonic engine").run()
    assert finding.ruling is Ruling.NOT_TESTABLE
    assert finding.reason == "would need a photonic engine"
