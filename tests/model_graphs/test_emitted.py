"""The committed graphs against the reference implementation that they were emitted from."""

from importlib.resources import files

import pytest

from model_graphs.configs import list_models, resolve_model
from model_graphs.graph_io import PHASES, graph_file_name, graph_from_json, graph_to_json, load_graph

KEYS = sorted({model.graph_key for model in list_models()})
EMITTED = files("model_graphs") / "emitted"


def test_every_model_has_a_graph_of_every_phase_and_nothing_else_is_shipped() -> None:
    shipped = {file.name for file in EMITTED.iterdir() if file.name.endswith(".json")}
    assert shipped == {graph_file_name(key, phase) for key in KEYS for phase in PHASES}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("model", [model.key for model in list_models()])
def test_a_graph_is_loaded_under_the_name_of_its_model(model: str, phase: str) -> None:
    graph = load_graph(model, phase)
    assert (graph.model, graph.phase) == (model, phase)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("key", KEYS)
def test_a_committed_file_is_in_canonical_form(key: str, phase: str) -> None:
    text = (EMITTED / graph_file_name(key, phase)).read_text(encoding="utf-8")
    assert graph_to_json(graph_from_json(text)) == text


def test_layers_are_templates_that_repeat() -> None:
    graph = load_graph("deepseek-v3", "decode")
    assert [(block.name, block.repeat) for block in graph.blocks] == [
        ("embedding", 1),
        ("dense_layer", 3),
        ("moe_layer", 58),
        ("head", 1),
    ]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("key", KEYS)
def test_emitting_again_gives_the_committed_bytes(key: str, phase: str) -> None:
    pytest.importorskip("torch", reason="the reference implementation needs the extra [reference]")
    from reference_impl.emission import emit

    text = (EMITTED / graph_file_name(key, phase)).read_text(encoding="utf-8")
    assert graph_to_json(emit(resolve_model(key).blueprint, phase, model=key)) == text
