import json
from pathlib import Path

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.expressions import Expression
from model_graphs.graph import Block, Collective, Operator, OperatorGraph, Role, Shard, Stream, Tensor
from model_graphs.graph_io import graph_from_json, graph_to_json, load_graph


def tensor(*shape: str | int, role: Role = Role.ACTIVATION) -> Tensor:
    return Tensor(tuple(Expression.parse(str(dim)) for dim in shape), "bf16", role)


def small_graph() -> OperatorGraph:
    linear = Operator(
        name="o_proj",
        kind="linear",
        inputs=(tensor("B", "S", 16), tensor(8, 16, role=Role.WEIGHT)),
        outputs=(tensor("B", "S", 8),),
        deps=(-1,),
        flop=Expression.parse("256*B*S"),
        causal_flop=Expression.parse("256*B*S"),
        weight_bytes=Expression.parse("256"),
        attrs={"n": 8, "k": 16},
        shard=Shard.ROW,
        component="attention",
    )
    reduce = Operator(
        name="o_proj.all_reduce",
        kind="all_reduce",
        inputs=(tensor("B", "S", 8),),
        outputs=(tensor("B", "S", 8),),
        deps=(0,),
        stream=Stream.COMMUNICATION,
        collective=Collective("all_reduce", "tp", 2, Expression.parse("16*B*S")),
        component="collective",
    )
    return OperatorGraph("deepseek-v3", "prefill", ("B", "S"), (Block("layer", 3, (linear, reduce)),))


def changed(**changes: object) -> str:
    """The small graph's file with fields of its first operator changed."""
    data = json.loads(graph_to_json(small_graph()))
    data["blocks"][0]["operators"][0] |= changes
    return json.dumps(data)


def test_a_graph_survives_its_file() -> None:
    assert graph_from_json(graph_to_json(small_graph())) == small_graph()


def test_the_same_graph_gives_the_same_bytes() -> None:
    text = graph_to_json(small_graph())
    assert graph_to_json(graph_from_json(text)) == text


def test_a_file_leaves_out_what_is_at_its_default() -> None:
    first, second = json.loads(graph_to_json(small_graph()))["blocks"][0]["operators"]
    assert "cache_read_bytes" not in first
    assert "collective" not in first
    assert "attrs" not in second


def test_instances_unroll_the_repetition() -> None:
    names = [(repetition, op.name) for _, repetition, op in small_graph().instances()]
    assert names == [(i, name) for i in range(3) for name in ("o_proj", "o_proj.all_reduce")]


@pytest.mark.parametrize(
    ("text", "path", "word"),
    [
        (changed(flop="256*B*"), "blocks[0].operators[0].flop", "must have an integer"),
        (changed(flop=2.5), "blocks[0].operators[0].flop", "text of an expression"),
        (changed(flop="256*Q"), "blocks[0].operators[0]", "declared under symbols; given Q"),
        (changed(deps=[0]), "blocks[0].operators[0].deps", "earlier operator"),
        (changed(shard="sideways"), "blocks[0].operators[0].shard", "'none', 'column'"),
        (changed(flops=1), "blocks[0].operators[0].flops", "not a key"),
        (changed(kind=None), "blocks[0].operators[0].kind", "string"),
    ],
)
def test_a_broken_file_is_refused_with_its_name_and_path(text: str, path: str, word: str) -> None:
    with pytest.raises(InputError, match=r"v3\.json") as caught:
        graph_from_json(text, "v3.json")
    assert [(problem.path, word in str(problem)) for problem in caught.value.problems] == [(path, True)]


def test_an_older_file_is_refused_with_the_way_out() -> None:
    older = graph_to_json(small_graph()).replace('"schema_version": 1', '"schema_version": 0')
    with pytest.raises(InputError, match=r"v3\.json  schema_version  must be 1; emit the graph again"):
        graph_from_json(older, "v3.json")


def test_text_that_is_no_json_is_refused_with_its_line() -> None:
    with pytest.raises(InputError, match=r"v3\.json:2:1  must be valid JSON"):
        graph_from_json("{\n", "v3.json")


def test_an_unknown_phase_or_an_unemitted_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean prefill"):
        load_graph("deepseek-v3", "prefil")
    with pytest.raises(InputError, match="run `silicast emit MODEL --out FOLDER` and set SILICAST_GRAPHS"):
        load_graph("deepseek-v3", "decode", folder=tmp_path)


def test_a_graph_is_read_from_a_folder_under_the_name_that_was_asked(tmp_path: Path) -> None:
    (tmp_path / "deepseek-v3.prefill.json").write_text(graph_to_json(small_graph()))
    graph = load_graph("deepseek-ai/DeepSeek-R1", "prefill", folder=tmp_path)
    assert graph.model == "deepseek-r1"
    assert graph.blocks == small_graph().blocks
