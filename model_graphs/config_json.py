"""A user's `config.json`: its architecture's figures, and how it says that weights are stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.yaml_reader import Document, Plain, read_document, validate_document
from model_graphs.approximation import EXACT, Approximation, approximated
from model_graphs.architectures import ARCHITECTURES, ModelConfig
from model_graphs.quantization import Quantization, read_quantization


@dataclass(frozen=True)
class ConfigFile:
    """What a file says: an architecture's figures, stored weights, and what was assumed to read it."""

    name: str
    architecture: str
    config: ModelConfig
    quantization: Quantization
    approximation: Approximation


def read_config_file(path: Path, *, approximate: bool = False) -> ConfigFile:
    """The content of a Hugging Face `config.json`.

    With `approximate` an unknown architecture is read as the nearest known one.

    Raises:
        InputError: with every problem of the file, at its line and column.
    """
    document = read_document(path)
    if not isinstance(document.data, dict):
        raise InputError(document.place((), Problem("must be a mapping of keys to values")))
    named = _named_architecture(document.data)
    approximation, data = EXACT, document.data
    if named not in ARCHITECTURES:
        if not approximate:
            problem = unknown_architecture(named, "; --approximate reads it as the nearest of these")
            raise InputError(document.place(("architectures",), problem))
        approximation = approximated(document, data, named)
        data = approximation.data
    name = approximation.architecture or named
    config = _config(name, Document(document.file, data, document.values, document.keys), data)
    return ConfigFile(path.name, name, config, read_quantization(document, config.blueprint), approximation)


def read_config_json(path: Path) -> tuple[str, ModelConfig]:
    """The architecture and the config in a Hugging Face `config.json`.

    Raises:
        InputError: with every problem of the file, at its line and column.
    """
    file = read_config_file(path)
    return file.architecture, file.config


def unknown_architecture(name: str, hint: str = "") -> Problem:
    """An architecture that there is no reference implementation of, with the list of those that there are."""
    known = ", ".join(sorted(ARCHITECTURES))
    suggestion = nearest(name, ARCHITECTURES)
    requirement = f"architecture must be one of {known}{hint}"
    return Problem(requirement, name, path="architectures", suggestion=suggestion)


def _named_architecture(data: Mapping[str, Plain]) -> str:
    named = data.get("architectures")
    name = named[0] if isinstance(named, list) and len(named) == 1 else None
    return name if isinstance(name, str) else repr(named)


def _config(name: str, document: Document, data: Mapping[str, Plain]) -> ModelConfig:
    kind = ARCHITECTURES[name]
    problems = [document.place((key,), problem) for key, problem in kind.foreign(data)]
    if problems:
        raise InputError(*problems)
    kept = kind.normalised(data)
    return validate_document(kind, Document(document.file, kept, document.values, document.keys))
