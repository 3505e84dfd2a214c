"""Which rules and constants a version gets."""

import pytest

from hardware_specs.records.errors import InputError
from simulator.stacks.library import BACKENDS, fitted_file, list_stacks, load_stack
from simulator.stacks.model import tier_value


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_stack_file_reads_and_every_rule_it_names_exists(backend):
    file = {f.backend: f for f in list_stacks()}[backend]
    assert [r.released for r in file.versions] == sorted(r.released for r in file.versions)
    assert {r.rules for r in file.versions} == set(file.rules)


def test_a_version_never_modelled_takes_its_nearest_older_neighbour_and_says_so():
    stack = load_stack("sglang", "0.5.10")
    assert stack.release.version == "0.5.9"
    assert not stack.exact
    assert "0.5.10 is not modelled" in stack.reason
    assert stack.spread > 0


def test_a_release_candidate_is_older_than_its_release():
    assert load_stack("trtllm", "1.2.0").release.version == "1.2.0rc6.post3"


def test_a_version_older_than_all_takes_the_oldest():
    assert load_stack("vllm", "0.6.1").release.version == "0.7.3"


def test_without_a_version_the_date_decides():
    assert load_stack("sglang", on="2025-11-18").release.version == "0.5.5"
    assert load_stack("sglang", on="2026-03-25").release.version == "0.5.9"
    assert load_stack("sglang", on="2020-01-01").release.version == "0.4.3"


def test_standing_in_for_another_version_widens_the_interval():
    known = load_stack("sglang", "0.5.9")
    stranger = load_stack("sglang", "0.5.11")
    assert stranger.constants.version == known.constants.version
    assert stranger.tpot_log_half_width > known.tpot_log_half_width


def test_an_architecture_without_a_fitted_run_gets_the_priors_of_the_scales_and_a_wider_interval():
    known = load_stack("sglang", "0.5.9", architecture="blackwell")
    other = load_stack("sglang", "0.5.9", architecture="hopper")
    assert other.constants.kernel_scale.value == fitted_file().unfitted_kernel_scale.value
    assert other.constants.host_base_s == known.constants.host_base_s
    assert other.tpot_log_half_width > known.tpot_log_half_width
    assert (known.grade, other.grade) == ("B", "C")
    assert "hopper not fitted" in other.reason


@pytest.mark.parametrize(
    ("backend", "version", "on"), [("tgi", "", ""), ("vllm", "latest!", ""), ("vllm", "", "25-1-1")]
)
def test_what_cannot_be_read_is_refused(backend, version, on):
    with pytest.raises(InputError):
        load_stack(backend, version, on)


def test_a_year_between_releases_widens_the_interval_two_to_fourfold():
    early, late = load_stack("sglang", "0.4.3"), load_stack("sglang", "0.5.12")
    assert early.spread > late.spread


def test_defaults_go_by_the_memory_of_the_device():
    tiers = load_stack("vllm", "0.33.0").rules.step_tokens
    assert [tier_value(tiers, gib * 2**30).value for gib in (178, 139, 40)] == [16384, 8192, 2048]


def test_a_stack_has_at_most_eight_constants():
    from simulator.step.constants import StackConstants

    assert len(StackConstants.names()) <= 8
    for entry in fitted_file().constants:
        assert entry.plain().kernel_scale > 0
