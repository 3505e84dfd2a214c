"""Server options of published runs, as their launch scripts compute them."""

import pytest

from simulator.measured.launch_scripts import launch_options


@pytest.mark.parametrize(
    ("isl", "concurrency", "day", "tokens"),
    [
        (1024, 64, "2025-11-02", 1152),  # (64 + 1024 + 127) // 64 * 64 = 18 * 64
        (8192, 4, "2025-12-15", 8320),  # (4 + 8192 + 127) // 64 * 64 = 130 * 64
        (1024, 64, "2026-01-14", 8192),  # later scripts never go below 8192
    ],
)
def test_tensorrt_llm_fits_one_prompt_beside_the_decoding_sequences(isl, concurrency, day, tokens):
    options = launch_options("trtllm", "h200_sxm", "fp8", 8, isl, concurrency, day)
    assert options == {"step_tokens": tokens}


def test_sglang_polls_less_often_under_load_on_blackwell_only():
    def poll(system, concurrency):
        options = launch_options("sglang", system, "fp4", 8, 1024, concurrency, "2026-03-25")
        return options.get("poll_interval_steps", 1)

    assert (poll("b200_sxm", 8), poll("b200_sxm", 16)) == (10, 30)
    assert poll("h200_sxm", 64) == 1


def test_fp8_on_four_blackwell_devices_runs_small():
    options = launch_options("sglang", "b200_sxm", "fp8", 4, 8192, 32, "2026-03-25")
    assert options["max_running"] == 32
    assert options["gpu_memory_fraction"] == 0.95


def test_an_engine_that_the_scripts_do_not_cover_gets_no_options():
    assert launch_options("vllm", "h200_sxm", "fp8", 8, 1024, 64, "2026-03-25") == {}
