"""Models with recurrent layers: configs, states beside caches, layouts and precision of them."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from hardware_specs.records.errors import InputError
from model_graphs.architectures.nemotron_h import NemotronHConfig
from model_graphs.config_json import read_config_json
from model_graphs.configs import resolve_model
from model_graphs.graph_io import load_graph
from model_graphs.layout import Layout, apply_layout
from model_graphs.precision import apply_precision
from model_graphs.totals import cache_groups, graph_work, parameter_counts, weight_bytes_by_component

NANO = "nemotron-nano-v2-9b"
QWEN = "qwen3.5-397b-a17b"


def states_and_rows(key: str, layout: Layout | None = None) -> dict[str, tuple[int, int, int]]:
    """Layers, bytes a token and bytes a sequence by group."""
    graph = load_graph(key, "decode")
    groups = cache_groups(apply_layout(graph, layout) if layout else graph)
    return {g.name: (g.layers, g.bytes_per_token, g.bytes_per_sequence) for g in groups}


def test_a_nano_keeps_states_in_27_layers_and_rows_in_4() -> None:
    channels = 128 * 80 + 2 * 8 * 128
    assert states_and_rows(NANO) == {
        "convolution inputs": (27, 0, 27 * channels * 3 * 2),
        "recurrent state": (27, 0, 27 * 128 * 80 * 128 * 4),  # fp32
        "keys and values": (4, 4 * 8 * 2 * 128 * 2, 0),
    }


def test_qwen_keeps_states_in_45_layers_and_rows_in_15() -> None:
    channels = 2 * 16 * 128 + 64 * 128
    assert states_and_rows(QWEN) == {
        "convolution inputs": (45, 0, 45 * channels * 3 * 2),
        "recurrent state": (45, 0, 45 * 64 * 128 * 128 * 4),  # fp32
        "keys and values": (15, 15 * 2 * 2 * 256 * 2, 0),
    }


@pytest.mark.parametrize("key", [NANO, QWEN])
def test_ranks_divide_states_evenly_and_copy_heads_of_keys_where_they_must(key: str) -> None:
    whole = states_and_rows(key)
    mine = states_and_rows(key, Layout.of(resolve_model(key).blueprint, gpus=8, tp=8))
    for name in ("convolution inputs", "recurrent state"):
        assert mine[name][2] * 8 == whole[name][2]
    copies = {NANO: 1, QWEN: 4}[key]  # two heads of keys and values on eight ranks
    assert mine["keys and values"][1] * 8 == whole["keys and values"][1] * copies


def test_an_fp8_cache_leaves_states_as_they_are() -> None:
    graph = apply_precision(load_graph(NANO, "decode"), None, "fp8", {"bf16"})
    halved = {g.name: (g.layers, g.bytes_per_token, g.bytes_per_sequence) for g in cache_groups(graph)}
    whole = states_and_rows(NANO)
    assert halved["keys and values"][1] * 2 == whole["keys and values"][1]
    assert halved["recurrent state"] == whole["recurrent state"]


def test_a_step_reads_and_writes_every_state_once() -> None:
    work = graph_work(load_graph(NANO, "decode"))
    states = sum(n_bytes for _, _, n_bytes in states_and_rows(NANO).values())
    rows = states_and_rows(NANO)["keys and values"][1]
    point = {"B": 3, "S": 1, "T": 9}
    assert work.cache_write_bytes.exact(point) == 3 * (states + rows)
    assert work.cache_read_bytes.exact(point) == 3 * (states + 10 * rows)


def test_a_long_prompt_writes_states_once_and_costs_flop_by_the_token() -> None:
    """Twice the tokens of a sequence: twice the FLOP but for attention, and the same states."""
    work = graph_work(load_graph(NANO, "prefill"))
    states = sum(n_bytes for _, _, n_bytes in states_and_rows(NANO).values())
    rows = states_and_rows(NANO)["keys and values"][1]
    for n_new in (1, 128, 4096):
        assert work.cache_write_bytes.exact({"B": 1, "S": n_new}) == states + n_new * rows
    attention = 4 * 4 * 40 * 128  # of a pair: scores and values of 40 heads in 4 layers
    once, twice = (work.flop.exact({"B": 1, "S": n}) - attention * n**2 for n in (1280, 2560))
    assert twice == 2 * once


def test_qwen_is_its_published_total_with_its_mtp_module_and_a_vision_tower() -> None:
    counts = parameter_counts(resolve_model(QWEN))
    assert counts.mtp == 6_595_568_128
    assert counts.total + counts.mtp + 456_010_480 == 403_397_928_944


def test_super_uses_about_12_billion_of_its_parameters_for_a_token() -> None:
    counts = parameter_counts(resolve_model("nemotron-3-super-120b"))
    assert 12.0e9 < counts.active_without_embedding < 12.5e9


def test_an_fp8_qwen_keeps_small_gates_and_the_router_in_16_bits() -> None:
    record = resolve_model(QWEN)
    graph = load_graph(record, "decode")
    wide = weight_bytes_by_component(graph)
    stored = weight_bytes_by_component(apply_precision(graph, record.storage("fp8"), "bf16", {"bf16"}))
    for name in ("gate", "router", "embedding", "head", "norm"):
        assert stored[name] == wide[name]
    for name in ("moe", "shared_expert", "attention"):
        assert stored[name] / wide[name] == pytest.approx(0.5, rel=1e-3)
    assert stored["linear_attention"] / wide["linear_attention"] == pytest.approx(0.5, rel=1e-3)


def written(tmp_path: Path, **figures: object) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(figures, indent=2))
    return path


def test_block_types_of_newer_files_are_the_letters_of_older_ones(tmp_path: Path) -> None:
    figures = resolve_model(NANO).config.model_dump(mode="json", exclude_none=True)
    letters = {"M": "mamba", "-": "mlp", "*": "attention"}
    types = [letters[letter] for letter in figures.pop("hybrid_override_pattern")]
    del figures["num_hidden_layers"]
    path = written(
        tmp_path, architectures=["NemotronHForCausalLM"], layers_block_type=types, use_bias=False, **figures
    )
    assert resolve_model(str(path)).key == NANO


def test_the_text_model_inside_a_published_file_is_read(tmp_path: Path) -> None:
    config = resolve_model(QWEN).config.model_dump(mode="json")
    rope = {name: config.pop(name) for name in ("rope_theta", "partial_rotary_factor")}
    tied = config.pop("tie_word_embeddings")
    del config["layer_types"]
    text = config | {"full_attention_interval": 4, "rope_parameters": {"rope_type": "default", **rope}}
    names = ["Qwen3_5MoeForConditionalGeneration"]
    path = written(
        tmp_path, architectures=names, text_config=text, vision_config={}, tie_word_embeddings=tied
    )
    assert resolve_model(str(path)).key == QWEN


def test_what_a_hybrid_cannot_be_is_refused_all_at_once(tmp_path: Path) -> None:
    figures = resolve_model(NANO).config.model_dump(mode="json", exclude_none=True)
    changed = figures | {"hybrid_override_pattern": "MXE", "n_groups": 7}
    with pytest.raises(ValidationError) as refused:
        NemotronHConfig.model_validate(changed)
    for wanted in (
        "hybrid_override_pattern  letters must be among M * - E; given MXE",
        "hybrid_override_pattern  must have a letter for each of 56 layers; given 3",
        "n_groups  must divide mamba_num_heads; given 7",
        "moe_shared_expert_intermediate_size  must be given where layers have experts",
    ):
        assert wanted in str(refused.value)
    path = written(
        tmp_path,
        **figures,
        architectures=["NemotronHForCausalLM"],
        mlp_hidden_act="gelu",
        mamba_ssm_cache_dtype="bfloat16",
    )
    with pytest.raises(InputError) as caught:
        read_config_json(path)
    assert len(caught.value.problems) == 2
