"""Model configurations: architecture figures by canonical key, hub name or path of a `config.json`.

The figures themselves are those of the model's architecture (see `model_graphs.architectures`); a record adds
names, checkpoints, how each precision stores the weights, and where the figures come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.hashing import content_hash
from hardware_specs.records.quantities import Kind
from hardware_specs.records.yaml_reader import (
    Document,
    Plain,
    read_document,
    validate_document,
    validate_file,
)
from model_graphs.architectures import ARCHITECTURES, ModelConfig
from model_graphs.blueprint import Blueprint


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Precision(StrEnum):
    """How weights are stored: as the model's checkpoints of that width do, or in a stated format."""

    BF16 = "bf16"
    FP8 = "fp8"
    FP4 = "fp4"
    FP8_TENSOR = "fp8_tensor"  # e4m3, one scale a tensor
    FP8_BLOCK = "fp8_block"  # e4m3 in 128x128 blocks
    NVFP4 = "nvfp4"  # e2m1 in blocks of 16
    MXFP4 = "mxfp4"  # e2m1 in blocks of 32
    INT8 = "int8"  # one scale a matrix, inputs quantised as they come


class Storage(_Record):
    """The element type of stored weights, and the components whose products are stored in it."""

    dtype: Literal["fp8", "fp8_block", "nvfp4", "mxfp4", "int8"]
    components: tuple[Literal["attention", "mlp", "shared_expert", "moe"], ...] = (
        "attention",
        "mlp",
        "shared_expert",
        "moe",
    )


_FORMATS: Mapping[Precision, Storage] = {
    Precision.FP8: Storage(dtype="fp8"),
    Precision.FP4: Storage(dtype="nvfp4"),
    Precision.FP8_TENSOR: Storage(dtype="fp8"),
    Precision.FP8_BLOCK: Storage(dtype="fp8_block"),
    Precision.NVFP4: Storage(dtype="nvfp4"),
    Precision.MXFP4: Storage(dtype="mxfp4"),
    Precision.INT8: Storage(dtype="int8"),
}


class Provenance(_Record):
    """Where figures of a configuration come from: `fields` empty means all that no other entry names."""

    kind: Kind
    source: str = Field(min_length=1)
    fields: tuple[str, ...] = ()


class _ModelFile(_Record):
    """A file of `model_graphs/configs`."""

    schema_version: Literal[1]
    key: str
    architecture: str
    checkpoints: dict[str, Precision] = {}
    stored: dict[Precision, Storage] = {}
    notes: tuple[str, ...] = ()
    sources: tuple[Provenance, ...] = Field(min_length=1)
    config_of: str | None = None
    config: Any = None

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in ARCHITECTURES:
            raise InputError(_unknown_architecture(name))
        return name

    @field_validator("config")
    @classmethod
    def _is_of_its_architecture(cls, figures: Any, info: ValidationInfo) -> ModelConfig | None:
        kind = ARCHITECTURES.get(info.data.get("architecture", ""))
        return kind.model_validate(figures) if kind and figures is not None else None

    @model_validator(mode="after")
    def _fields_exist(self) -> Self:
        if (self.config is None) == (self.config_of is None):
            raise InputError(Problem("exactly one of config and config_of must be given"))
        known = ARCHITECTURES[self.architecture].model_fields
        unknown = [name for entry in self.sources for name in entry.fields if name not in known]
        if unknown:
            requirement = "must be a field of the config"
            raise InputError(
                *(Problem(requirement, name, suggestion=nearest(name, known)) for name in unknown)
            )
        return self


@dataclass(frozen=True)
class ModelRecord:
    """A model that can be asked about. `graph_key` is the name under which its graphs are emitted."""

    key: str
    architecture: str
    config: ModelConfig
    graph_key: str
    checkpoints: Mapping[str, Precision]
    stored: Mapping[Precision, Storage]
    notes: tuple[str, ...]
    sources: tuple[Provenance, ...]
    content_hash: str

    @property
    def blueprint(self) -> Blueprint:
        """What the model is made of."""
        return self.config.blueprint

    @property
    def aliases(self) -> tuple[str, ...]:
        """Hub names that mean this model."""
        return tuple(self.checkpoints)

    def storage(self, precision: str) -> Storage | None:
        """How the model's weights are stored at a precision; None where all stay in 16 bits.

        Raises:
            InputError: there is no such precision.
        """
        if precision not in tuple(Precision):
            requirement, suggestion = f"must be one of {', '.join(Precision)}", nearest(precision, Precision)
            raise InputError(
                Problem(requirement, repr(precision), path="deployment.precision", suggestion=suggestion)
            )
        wanted = Precision(precision)
        return self.stored.get(wanted) or _FORMATS.get(wanted)

    def assumed_fields(self) -> tuple[str, ...]:
        """Fields of the config that the model's source does not state."""
        return tuple(name for entry in self.sources if entry.kind is Kind.ASSUMED for name in entry.fields)


def list_models() -> tuple[ModelRecord, ...]:
    """Every shipped model, by key."""
    return tuple(_registry()[key] for key in sorted(_registry()))


def resolve_model(name: str) -> ModelRecord:
    """The model of a canonical key, a hub name (case does not matter) or a path to a `config.json`.

    Raises:
        InputError: nothing is known under the name, or the file is not a valid config of a known
            architecture.
    """
    known = _names()
    if name.lower() in known:
        return known[name.lower()]
    path = Path(name)
    if path.suffix == ".json" or (path / "config.json").is_file():
        return _from_config_json(path if path.suffix == ".json" else path / "config.json")
    choices = [record.key for record in list_models()]
    problem = Problem(
        f"model must be one of {', '.join(choices)}, a hub name of one, or a path to a config.json",
        given=repr(name),
        path="model",
        suggestion=nearest(name.rsplit("/", 1)[-1].lower(), choices) or nearest(name.lower(), known),
    )
    raise InputError(problem)


@cache
def _names() -> Mapping[str, ModelRecord]:
    """Every model by its key and by its hub names, with and without their owner, in lower case."""
    named: dict[str, ModelRecord] = {}
    for record in list_models():
        for alias in (*record.aliases, *(name.rsplit("/", 1)[-1] for name in record.aliases)):
            named.setdefault(alias.lower(), record)
    return named | {record.key: record for record in list_models()}


@cache
def _registry() -> Mapping[str, ModelRecord]:
    folder = files("model_graphs") / "configs"
    read = [_read_model_file(file) for file in folder.iterdir() if file.name.endswith(".yaml")]
    written = {file.key: file for file in read}
    return {file.key: _record(file, written) for file in read}


def _read_model_file(file: Traversable) -> _ModelFile:
    return validate_file(_ModelFile, file, f"model_graphs/configs/{file.name}")


def _record(file: _ModelFile, written: Mapping[str, _ModelFile]) -> ModelRecord:
    graph_key = file.config_of or file.key
    origin = written[graph_key]
    config = origin.config
    assert config is not None, f"{file.key} must take its config from a file that holds one"
    return ModelRecord(
        key=file.key,
        architecture=origin.architecture,
        config=config,
        graph_key=graph_key,
        checkpoints=file.checkpoints,
        stored=file.stored or origin.stored,
        notes=file.notes,
        sources=file.sources,
        content_hash=_fingerprint(origin.architecture, config),
    )


def _fingerprint(architecture: str, config: ModelConfig) -> str:
    return content_hash(architecture, config.model_dump(mode="json"))


def _from_config_json(path: Path) -> ModelRecord:
    """The record of a user's file; a shipped model with the same figures lends its graphs."""
    architecture, config = read_config_json(path)
    fingerprint = _fingerprint(architecture, config)
    source = Provenance(kind=Kind.DATASHEET, source=f"file {path.name} given by the user")
    for record in list_models():
        if record.content_hash == fingerprint and record.key == record.graph_key:
            note = f"the figures of {path.name} are those of {record.key}"
            return replace(record, checkpoints={}, notes=(note,), sources=(source,))
    key = f"custom-{fingerprint}"
    return ModelRecord(key, architecture, config, key, {}, {}, (), (source,), fingerprint)


def read_config_json(path: Path) -> tuple[str, ModelConfig]:
    """The architecture and the config in a Hugging Face `config.json`.

    Raises:
        InputError: with every problem of the file, at its line and column.
    """
    document = read_document(path)
    if not isinstance(document.data, dict):
        raise InputError(document.place((), Problem("must be a mapping of keys to values")))
    name = _architecture_of(document, document.data)
    kind = ARCHITECTURES[name]
    problems = [document.place((key,), problem) for key, problem in kind.foreign(document.data)]
    if problems:
        raise InputError(*problems)
    kept = kind.normalised(document.data)
    return name, validate_document(kind, Document(document.file, kept, document.values, document.keys))


def _architecture_of(document: Document, data: Mapping[str, Plain]) -> str:
    named = data.get("architectures")
    name = named[0] if isinstance(named, list) and len(named) == 1 else None
    if not isinstance(name, str) or name not in ARCHITECTURES:
        given = name if isinstance(name, str) else repr(named)
        raise InputError(document.place(("architectures",), _unknown_architecture(given)))
    return name


def _unknown_architecture(name: str) -> Problem:
    known = ", ".join(sorted(ARCHITECTURES))
    suggestion = nearest(name, ARCHITECTURES)
    return Problem(f"architecture must be one of {known}", name, path="architectures", suggestion=suggestion)
