"""YAML 1.2 read as plain data that remembers where every value stands, and checked against a pydantic model.

Nothing in a file is executed: the reader composes nodes and builds scalars, lists and mappings itself, so an
explicit tag, a duplicate key, or an alias to a collection is a problem, not a behaviour. What a valid file
must hold is said by the model; turning the model's complaints into sentences is `wording`'s job.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.wording import Step, path_text, sentences

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
Position = tuple[int, int]
ModelT = TypeVar("ModelT", bound=BaseModel)

_TAG = "tag:yaml.org,2002:"
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Document:
    """Plain data of one file, and line and column (from 1) of every value and every key."""

    file: str
    data: Plain
    values: Mapping[tuple[Step, ...], Position]
    keys: Mapping[tuple[Step, ...], Position]

    def place(self, path: tuple[Step, ...], problem: Problem, *, at_key: bool = False) -> Problem:
        """The problem with this file, the path, and the nearest position known on the way to it."""
        line, column = self._position(path, at_key=at_key)
        return Problem(
            requirement=problem.requirement,
            given=problem.given,
            file=self.file,
            line=line,
            column=column,
            path=path_text(path),
            suggestion=problem.suggestion,
        )

    def _position(self, path: tuple[Step, ...], *, at_key: bool) -> Position:
        if at_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))


class _Builder:
    """Turns composed nodes into plain data, collecting positions and problems on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.values: dict[tuple[Step, ...], Position] = {}
        self.keys: dict[tuple[Step, ...], Position] = {}
        self.problems: list[Problem] = []
        self._collections: set[int] = set()

    def build(self, node: Node, path: tuple[Step, ...]) -> Plain:
        self.values[path] = _position_of(node)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._collections:
            return self._wrong(node, path, "an alias may repeat text or a number, not a list or a mapping")
        self._collections.add(id(node))
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
            return dict(self._items(node, path))
        return self._wrong(node, path, "must be plain YAML without tags", str(node.tag))

    def _items(self, node: MappingNode, path: tuple[Step, ...]) -> Iterator[tuple[str, Plain]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._wrong(key_node, path, "a key must be text")
                continue
            key = str(key_node.value)
            below = (*path, key)
            if below in self.keys:
                first_line = self.keys[below][0]
                self._wrong(key_node, below, f"a key must appear once; the first is on line {first_line}")
                continue
            self.keys[below] = _position_of(key_node)
            yield key, self.build(value_node, below)

    def _scalar(self, node: ScalarNode, path: tuple[Step, ...]) -> Plain:
        kind = str(node.tag).removeprefix(_TAG)
        text = str(node.value)
        if kind in ("str", "timestamp"):
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if kind in ("int", "float"):
            return self._number(node, path, kind, text.replace("_", ""))
        return self._wrong(node, path, "must be plain YAML without tags", str(node.tag))

    def _number(self, node: ScalarNode, path: tuple[Step, ...], kind: str, text: str) -> Plain:
        try:
            number = (
                int(text, 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o") else 10)
                if kind == "int"
                else float(text)
            )
        except ValueError:
            return self._wrong(node, path, "must be a finite number", text)
        return number if math.isfinite(number) else self._wrong(node, path, "must be a finite number", text)

    def _wrong(self, node: Node, path: tuple[Step, ...], requirement: str, given: str = "") -> Plain:
        line, column = _position_of(node)
        self.problems.append(Problem(requirement, given, self.file, line, column, path_text(path)))
        return None


def _position_of(node: Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def parse_document(text: str, file: str) -> Document:
    """The document of a YAML text; `file` is the name that problems carry.

    Raises:
        InputError: the text is not YAML, is empty, repeats a key, or uses tags.
    """
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise InputError(Problem("must be valid YAML", error.problem or "", file, line, column)) from error
    except YAMLError as error:
        raise InputError(Problem("must be valid YAML", " ".join(str(error).split()), file)) from error
    if node is None:
        raise InputError(Problem("must not be empty", "no content", file))
    builder = _Builder(file)
    data = builder.build(node, ())
    if builder.problems:
        raise InputError(*builder.problems)
    return Document(file, data, builder.values, builder.keys)


def read_document(file: Path | Traversable, name: str = "") -> Document:
    """The document of a YAML file.

    Raises:
        InputError: the file cannot be read as UTF-8 text, or `parse_document` refuses it.
    """
    shown = name or str(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(Problem("must be a readable UTF-8 file", reason, shown)) from error
    return parse_document(text, shown)


def validate_document(model: type[ModelT], document: Document) -> ModelT:
    """The document as a record of this model. Types are strict: `"8"` is not a number, `8` is not text.

    Raises:
        InputError: with every problem of the file, each at its line and column.
    """
    try:
        return model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        found = [
            document.place(complaint.path, complaint.problem, at_key=complaint.at_key)
            for complaint in sentences(error, model, document.data)
        ]
        raise InputError(
            *sorted(found, key=lambda problem: (problem.line or 0, problem.column or 0))
        ) from error


def validate_file(model: type[ModelT], file: Path | Traversable, name: str = "") -> ModelT:
    """The file as a record of this model.

    Raises:
        InputError: with every problem of the file, each at its line and column.
    """
    return validate_document(model, read_document(file, name))
