import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="generation needs the extra `reference`")


from model_graphs.configs import resolve_model
from reports.cli.main import main

SMALL = ["--prompt-tokens", "12", "--new-tokens", "8", "--page-tokens", "4"]
TINY = ["deepseek-v3", "--tiny", *SMALL]

Shown = Callable[..., dict[str, Any]]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    def call(*argv: str) -> dict[str, Any]:
        assert main(["generate", *argv, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def test_the_same_flags_give_the_same_output_but_for_what_the_clock_said(shown: Shown) -> None:
    first, again = (shown(*TINY, "--temperature", "1", "--seed", "3") for _ in range(2))
    assert first.pop("measured")["decode_tokens_per_s"] > 0
    again.pop("measured")
    assert first == again
    assert shown(*TINY, "--temperature", "1", "--seed", "4")["ids"] != first["ids"]


def test_tiers_and_drafts_change_the_bytes_and_the_steps_but_no_token(shown: Shown, tmp_path: Path) -> None:
    plain = shown(*TINY)
    tiers = ["--tiers", "device=8KiB,host=2KiB,disk", "--spill-folder", str(tmp_path)]
    spilled = shown(*TINY, *tiers)
    drafted = shown(*TINY, *tiers, "--speculative", "mtp", "--chunk-tokens", "12")
    assert plain["ids"] == spilled["ids"] == drafted["ids"]
    assert plain["moved_bytes"] is plain["acceptance"] is None
    assert set(spilled["moved_bytes"]) == {
        "device to host",
        "host to disk",
        "host to device",
        "disk to device",
    }
    assert drafted["acceptance"]["judged"][0] == drafted["decode_steps"] - 1
    assert not list(tmp_path.iterdir())


def test_the_tables_say_what_ran_and_that_it_is_not_the_full_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["generate", *TINY, "--tiers", "device,host", "--speculative", "draft"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "a narrow member of the family with random weights",
        "tokens/s on this machine",
        "KV pages moved between tiers",
        "Speculative decoding",
        "acceptance says nothing about a trained model",
    ):
        assert words in text


def test_a_cache_that_fits_nowhere_is_infeasible(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *TINY, "--tiers", "device=1KiB,host"]) == 3
    assert "tier device of the KV cache" in capsys.readouterr().err


def test_everything_wrong_with_a_request_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--dtype", "fp8", "--tiers", "hots=3", "--spill", "lur", "--sequences", "0", "--depth", "0"]
    assert main(["generate", "--tiny", *flags, "--temperature", "-1", "--draft-checkpoint", "x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    for words in (
        "MODEL  must name",
        "--dtype  must be one of fp32, bf16; given fp8",
        "--tiers  must be one of device, host, disk; given hots; did you mean host?",
        "--tiers hots  must be a number with a unit of bytes; given '3'",
        "--spill  must be one of lru, oldest_block, layer; given lur",
        "--sequences  must be at least 1; given 0",
        "--depth  must be at least 1; given 0",
        "--temperature  must be at least 0; given -1",
        "--draft-checkpoint  needs --checkpoint",
    ):
        assert [line for line in lines if line.startswith(words)], words
    assert len(lines) == 9


def test_a_model_with_recurrent_layers_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "nemotron-nano-v2-9b", "--tiny"]) == 2
    assert "states of recurrent layers are not paged" in capsys.readouterr().err


def test_tiers_out_of_order_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *TINY, "--tiers", "host,device=1MiB"]) == 2
    assert "must begin with device" in capsys.readouterr().err


def make_checkpoint(folder: Path, **changes: int) -> Path:
    """Narrow weights in a folder, under the names of the hub."""
    from model_graphs.architectures.deepseek import DeepSeekV3Config
    from reference_impl.checkpoints.writer import write_checkpoint
    from reference_impl.decoder import build_model
    from reference_impl.narrow import randomise

    published = resolve_model("deepseek-v3").config.model_dump()
    config = DeepSeekV3Config.model_validate(published | NARROW | changes)
    model = build_model(config.blueprint)
    randomise(model, seed=1)
    folder.mkdir()
    write_checkpoint(model, config, folder)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "trained")


NARROW = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "num_attention_heads": 2,
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
}


def test_a_checkpoint_is_run_and_drafts_for_itself_without_fail(shown: Shown, checkpoint: Path) -> None:
    folder = str(checkpoint)
    flags = ["--checkpoint", folder, *SMALL, "--speculative", "draft", "--draft-checkpoint", folder]
    made = shown(*flags)
    assert (made["checkpoint"], made["narrow"], made["notes"]) == (folder, False, [])
    assert made["acceptance"]["fraction"] == [1.0, 1.0]


def test_a_draft_model_of_another_vocabulary_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_checkpoint(tmp_path / "other", vocab_size=32)
    flags = ["--speculative", "draft", "--draft-checkpoint", str(other)]
    assert main(["generate", "--checkpoint", str(checkpoint), *SMALL, *flags]) == 2
    assert "must have the vocabulary of the checkpoint, 64 tokens; given 32" in capsys.readouterr().err


def test_a_folder_without_a_checkpoint_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--checkpoint", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err
