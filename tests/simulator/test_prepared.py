"""A deployment made ready: layouts, memory, cache dtypes, and everything that keeps one from being made."""

import pytest

from hardware_specs.records.errors import DoesNotFitError, InputError
from simulator.costs.expert_load import fitted_exponent
from simulator.prepared import prepare
from simulator.scenario.model import Deployment

R1 = Deployment(model="deepseek-r1", system="h200_sxm", stack="sglang", stack_version="0.5.9")


def test_the_weights_of_eight_ranks_are_the_model_and_what_is_replicated():
    terms = {term.name: term.needed_bytes for term in prepare(R1).memory.terms}
    # 671.026e9 parameters at one byte (e4m3), scales, bf16 parts; MLA down projections on every rank
    assert 8 * terms["weights"] == pytest.approx(671e9, rel=0.03)


def test_the_cache_holds_what_memory_leaves():
    memory = prepare(R1).memory
    left = memory.usable_bytes - memory.needed_bytes
    assert memory.kv_bytes_per_token == 70272
    assert memory.kv_capacity_tokens == int(left // 70272)


def test_an_fp8_cache_halves_the_bytes_of_a_token():
    half = prepare(R1.model_copy(update={"kv_dtype": "fp8"})).memory
    assert half.kv_bytes_per_token == 35136
    assert half.kv_capacity_tokens > 1.9 * prepare(R1).memory.kv_capacity_tokens


def test_a_model_that_does_not_fit_says_by_how_much_and_what_would():
    with pytest.raises(DoesNotFitError) as caught:
        prepare(R1.model_copy(update={"system": "a100_sxm_80gb", "gpus": 4, "tp": 4}))
    error = caught.value
    assert error.exit_code == 3
    assert error.needed_bytes > error.available_bytes > 0
    assert "16 x a100_sxm_80gb" in error.nearest_fit


def test_weights_may_be_stored_in_a_dtype_that_the_device_cannot_compute_in():
    prepared = prepare(R1.model_copy(update={"system": "a100_sxm_80gb", "gpus": 16, "tp": 16}))
    assert any("computed in bf16" in note for note in prepared.notes)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"tp": 3, "gpus": 3}, "tp"),
        ({"gpus": 12}, "gpus"),
        ({"ep": 7}, "ep"),
        ({"precision": "fp6"}, "precision"),
        ({"kv_dtype": "int3"}, "kv_dtype"),
        ({"expert_load": "zipf"}, "deployment.expert_load"),
        ({"system": "h200_smx"}, ""),
        ({"model": "deepseek-r9"}, ""),
        ({"stack_version": "newest"}, "stack_version"),
    ],
)
def test_what_cannot_be_is_refused_by_the_field_that_says_it(change, path):
    with pytest.raises(InputError) as caught:
        prepare(R1.model_copy(update=change))
    assert any(path in problem.path for problem in caught.value.problems)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError) as caught:
        prepare(R1.model_copy(update={"system": "h200_smx"}))
    assert "h200_sxm" in str(caught.value)


def test_attention_ranks_wait_for_each_other_only_where_the_stack_balances_them():
    wide = Deployment(model="deepseek-r1", system="h200_sxm", stack="trtllm", tp=1, dp=8, ep=8)
    narrow = wide.model_copy(update={"tp": 8, "dp": 1})
    assert prepare(wide).engine_options(0.0, 0.0).stream_interval_steps == 60
    assert prepare(narrow).engine_options(0.0, 0.0).stream_interval_steps == 0


def test_a_queue_looked_at_every_tenth_step_delays_half_of_that():
    polled = prepare(R1.model_copy(update={"poll_interval_steps": 11}))
    assert polled.engine_options(0.0, 3.0).stream_interval_steps == pytest.approx(3 + 5)


def expert_s(deployment: Deployment) -> float:
    """Seconds of the routed experts of all layers at the largest step."""
    return float(prepare(deployment).components.expert.kernel_s[-1])


def test_placing_experts_by_load_is_faster_than_not_and_no_faster_than_even_load():
    spread = R1.model_copy(update={"ep": 8})
    laws = ("balanced", "power_law_1.2_eplb", "power_law_1.2")
    even, placed, skewed = (expert_s(spread.model_copy(update={"expert_load": law})) for law in laws)
    assert even <= placed * 1.001
    assert placed < 0.9 * skewed


def test_redundant_copies_take_memory():
    spread = R1.model_copy(update={"ep": 8})
    copied = spread.model_copy(update={"expert_load": "power_law_eplb32"})
    lost = prepare(spread).memory.kv_capacity_tokens - prepare(copied).memory.kv_capacity_tokens
    # four experts more a rank in 58 layers, a byte a parameter and scales, over 70,272 bytes a token
    assert lost == pytest.approx(58 * 4 * 3 * 7168 * 2048 / 70272, rel=0.01)


def test_not_knowing_the_exponent_widens_the_step():
    spread = R1.model_copy(update={"ep": 8})
    stated = spread.model_copy(update={"expert_load": f"power_law_{fitted_exponent().exponent.value:g}"})
    assert prepare(spread).components.log_half_width > prepare(stated).components.log_half_width
