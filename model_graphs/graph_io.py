"""Operator graphs as JSON files: templates with repeat counts, one operator a line, always the same bytes.

A field at its default is left out of the file. A file of another schema version, with a key that is not
known, or whose dependencies and symbols do not hold together is refused with its name and the path inside it.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.wording import path_text
from model_graphs.blueprint import Blueprint
from model_graphs.configs import ModelRecord, resolve_model
from model_graphs.expressions import Expression
from model_graphs.graph import SCHEMA_VERSION, Operator, OperatorGraph

#: whole prompts, parts of prompts on a cache, one token a sequence, one step of the MTP module
PHASES = ("prefill", "chunked_prefill", "decode", "mtp")

#: environment variable with the folder of graphs that are not shipped
GRAPHS_VARIABLE = "SILICAST_GRAPHS"

_ADAPTER = TypeAdapter(OperatorGraph)


def phases_of(blueprint: Blueprint) -> tuple[str, ...]:
    """The phases of a model; only one with multi-token prediction has that phase."""
    return PHASES if blueprint.mtp_layers else PHASES[:-1]


def graph_to_json(graph: OperatorGraph) -> str:
    """The text of the graph's file."""
    data = _ADAPTER.dump_python(graph, mode="json", exclude_defaults=True)
    data = {"schema_version": graph.schema_version, **data}
    blocks = data.pop("blocks")
    head = "".join(f"{_line(key)}: {_line(value)},\n" for key, value in data.items())
    return "{\n" + head + '"blocks": [\n' + ",\n".join(_block_text(block) for block in blocks) + "\n]\n}\n"


def _block_text(block: dict[str, Any]) -> str:
    operators = ",\n".join(f"  {_line(_without_empty(operator))}" for operator in block["operators"])
    return f'{{"name": {_line(block["name"])}, "repeat": {block["repeat"]}, "operators": [\n{operators}\n]}}'


def _without_empty(operator: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in operator.items() if key != "attrs" or value}


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)


def graph_from_json(text: str, file: str = "") -> OperatorGraph:
    """The graph that the text holds; `file` is the name that problems carry.

    Raises:
        InputError: with every problem found.
    """
    _check_version(text, file)
    try:
        graph = _ADAPTER.validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(*_complaints(error, file)) from error
    problems = [replace(problem, file=file) for problem in _inconsistencies(graph)]
    if problems:
        raise InputError(*problems)
    return graph


def _check_version(text: str, file: str) -> None:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(Problem("must be valid JSON", error.msg, file, error.lineno, error.colno)) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        requirement = f"must be {SCHEMA_VERSION}; emit the graph again with `silicast emit`"
        raise InputError(Problem(requirement, repr(version), file, path="schema_version"))


def _complaints(error: ValidationError, file: str) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        path = path_text(detail["loc"])
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            yield from (replace(problem, file=file, path=path) for problem in cause.problems)
        elif detail["type"] == "unexpected_keyword_argument":
            yield Problem("is not a key here", file=file, path=path)
        elif detail["type"] == "missing":
            yield Problem("must be given", file=file, path=path)
        else:
            yield Problem(detail["msg"], repr(detail["input"])[:60], file, path=path)


def _inconsistencies(graph: OperatorGraph) -> Iterator[Problem]:
    """Dependencies that do not point backwards, symbols that the graph does not declare, no repetition."""
    declared = frozenset(graph.symbols)
    for b, block in enumerate(graph.blocks):
        if block.repeat < 1:
            yield Problem("must be at least 1", str(block.repeat), path=f"blocks[{b}].repeat")
        for o, operator in enumerate(block.operators):
            path = f"blocks[{b}].operators[{o}]"
            if not all(-1 <= dep < o for dep in operator.deps):
                requirement = "must be -1 or the index of an earlier operator of the block"
                yield Problem(requirement, str(list(operator.deps)), path=f"{path}.deps")
            undeclared = frozenset().union(*(e.symbols for e in operator_expressions(operator))) - declared
            for name in sorted(undeclared):
                yield Problem(
                    "symbol must be declared under symbols",
                    name,
                    path=path,
                    suggestion=nearest(name, declared),
                )


def operator_expressions(operator: Operator) -> Iterator[Expression]:
    """Every expression of an operator: dimensions, work, traffic, message."""
    for tensor in (*operator.inputs, *operator.outputs):
        yield from tensor.shape
    yield from (operator.flop, operator.causal_flop, operator.weight_bytes)
    yield from (operator.activation_read_bytes, operator.activation_write_bytes)
    yield from (operator.cache_read_bytes, operator.cache_write_bytes)
    if operator.collective is not None:
        yield operator.collective.message_bytes


def graph_file_name(graph_key: str, phase: str) -> str:
    """The name of the file that holds a phase of a model."""
    return f"{graph_key}.{phase}.json"


def own_graphs() -> Path | None:
    """The user's folder of emitted graphs, where the environment names one (`SILICAST_GRAPHS`)."""
    named = os.environ.get(GRAPHS_VARIABLE)
    return Path(named) if named else None


def is_emitted(model: ModelRecord, phase: str) -> bool:
    """Whether there is a graph of the phase, in the package or in the user's folder."""
    return _source(graph_file_name(model.graph_key, phase)) is not None


def _source(name: str, folder: Path | None = None) -> tuple[Traversable, str] | None:
    """A graph's file and the name that problems carry: in the folder, or else shipped, or else the user's."""
    if folder is not None:
        return (folder / name, str(folder / name)) if (folder / name).is_file() else None
    shipped = files("model_graphs") / "emitted" / name
    if shipped.is_file():
        return shipped, f"model_graphs/emitted/{name}"
    own = own_graphs()
    return _source(name, own) if own is not None else None


def load_graph(model: str | ModelRecord, phase: str, folder: Path | None = None) -> OperatorGraph:
    """The emitted graph of a model, from a folder that `silicast emit` wrote.

    Without a folder it is looked for in the package, then where the environment says.

    Raises:
        InputError: the model or phase is unknown, no graph was emitted for it, or the file is broken.
    """
    record = resolve_model(model) if isinstance(model, str) else model
    if phase not in PHASES:
        requirement = f"phase must be one of {', '.join(PHASES)}"
        raise InputError(Problem(requirement, repr(phase), path="phase", suggestion=nearest(phase, PHASES)))
    name = graph_file_name(record.graph_key, phase)
    found = _source(name, folder)
    if found is None:
        requirement = (
            f"a graph of {record.key} in phase {phase} must have been emitted; run "
            f"`silicast emit MODEL --out FOLDER` and set {GRAPHS_VARIABLE}=FOLDER"
        )
        raise InputError(Problem(requirement, f"no file {name}", path="model"))
    source, shown = found
    graph = graph_from_json(source.read_text(encoding="utf-8"), shown)
    return replace(graph, model=record.key)
