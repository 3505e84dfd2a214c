"""The committed graphs against the reference implementation that they were emitted from."""

from importlib.resources import files

import pytest

from model_graphs.configs import list_models, resolve_model
from model_graphs.graph_io import graph_file_name, graph_from_json, graph_to_json, load_graph, phases_of

KEYS = sorted({model.graph_key for model in list_models()})
EMITTED = files("model_graphs") / "emitted"


def test_every_model_has_a_graph_of_every_phase_and_nothing_else_is_shipped() -> None:
    shipped = {file.name for file in EMITTED.iterdir() if file.name.endswith(".json")}
    phases = {key: phases_of(resolve_model(key).blueprint) for key in KEYS}
    assert shipped == {graph_file_name(key, phase) for key in KEYS for phase in phases[key]}


@pytest.mark.parametrize("key", [model.key for model in list_models()])
def test_a_graph_is_loaded_under_the_name_of_its_model(key: str) -> None:
    for phase in phases_of(resolve_model(key).blueprint):
        graph = load_graph(key, phase)
        assert (graph.model, graph.phase) == (key, phase)


@pytest.mark.parametrize("key", KEYS)
def test_a_committed_file_is_in_canonical_form(key: str) -> None:
    for phase in phases_of(resolve_model(key).blueprint):
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


def assert_emitting_again_gives_the_committed_bytes(key: str) -> None:
    pytest.importorskip("torch", reason="the reference implementation needs the extra [reference]")
    from reference_impl.emission import emit

    blueprint = resolve_model(key).blueprint
    for phase in phases_of(blueprint):
        text = (EMITTED / graph_file_name(key, phase)).read_text(encoding="utf-8")
        assert graph_to_json(emit(blueprint, phase, model=key)) == text


#: the first model of each architecture, and V3
SAMPLE = sorted({"deepseek-v3", *{resolve_model(key).architecture: key for key in reversed(KEYS)}.values()})


@pytest.mark.parametrize("key", SAMPLE)
def test_emitting_again_gives_the_committed_bytes(key: str) -> None:
    assert_emitting_again_gives_the_committed_bytes(key)


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(set(KEYS) - set(SAMPLE)))
def test_emitting_any_other_model_again_gives_the_committed_bytes(key: str) -> None:
    assert_emitting_again_gives_the_committed_bytes(key)
