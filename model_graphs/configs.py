"""Model configurations: architecture figures by canonical key, hub name or path of a `config.json`.

The figures themselves are those of the model's architecture (see `model_graphs.architectures`); a record adds
names, checkpoints, how each precision stores the weights, and where the figures come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.evidence import Grade
from hardware_specs.records.hashing import content_hash
from hardware_specs.records.name_table import read_names
from hardware_specs.records.quantities import Kind
from hardware_specs.records.yaml_reader import validate_file
from model_graphs.architectures import ARCHITECTURES, ArchitectureConfig
from model_graphs.blueprint import Blueprint
from model_graphs.config_json import ConfigFile, read_config_file, unknown_architecture
from model_graphs.storage import FORMATS, NAME_OF, Precision, Storage


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_FOLDER: Traversable = files("model_graphs") / "configs"


class Provenance(_Record):
    """Where figures of a configuration come from: `fields` empty means all that no other entry names."""

    kind: Kind
    source: str = Field(min_length=1)
    fields: tuple[str, ...] = ()


class _ModelFile(_Record):
    """A file of `model_graphs/configs`; its `config` holds what `config.json` says of the architecture."""

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
            raise InputError(unknown_architecture(name))
        return name

    @field_validator("config")
    @classmethod
    def _is_of_its_architecture(cls, figures: Any, info: ValidationInfo) -> ArchitectureConfig | None:
        kind = ARCHITECTURES.get(info.data.get("architecture", ""))
        if kind is None or not isinstance(figures, dict):
            return None
        problems = [replace(problem, path=key) for key, problem in kind.foreign(figures)]
        if problems:
            raise InputError(*problems)
        return kind.model_validate(kind.normalised(figures))

    @model_validator(mode="after")
    def _fields_exist(self) -> Self:
        if (self.config is None) == (self.config_of is None):
            raise InputError(Problem("exactly one of config and config_of must be given"))
        kind = ARCHITECTURES[self.architecture]
        known = {*kind.model_fields, *kind.fixed}
        named = [name for entry in self.sources for name in entry.fields]
        unknown = [name for name in named if name.split(".")[0] not in known]
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
    config: ArchitectureConfig
    graph_key: str
    checkpoints: Mapping[str, Precision]
    stored: Mapping[Precision, Storage]
    notes: tuple[str, ...]
    sources: tuple[Provenance, ...]
    content_hash: str
    precision: Precision | None = None  # that of a user's file
    approximates: str = ""  # the unknown architecture that this one stands for

    @property
    def grade(self) -> Grade:
        """The best grade that a number of this model can have."""
        return Grade.D if self.approximates else Grade.A

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
        return self.stored.get(wanted) or FORMATS.get(wanted)

    def assumed_fields(self) -> tuple[str, ...]:
        """Fields of the config that the model's source does not state."""
        return tuple(name for entry in self.sources if entry.kind is Kind.ASSUMED for name in entry.fields)


def list_models() -> tuple[ModelRecord, ...]:
    """Every shipped model, by key."""
    return tuple(_model(key) for key in _keys())


def resolve_model(name: str, *, approximate: bool = False) -> ModelRecord:
    """The model of a canonical key, a hub name (case does not matter) or a path to a `config.json`.

    With `approximate` a file of an unknown architecture is read as the nearest known one, at grade D.

    Raises:
        InputError: nothing is known under the name, or the file is not a valid config of a known
            architecture.
    """
    path = Path(name)
    if path.suffix == ".json":
        return _from_config_file(read_config_file(path, approximate=approximate))
    if (_FOLDER / f"{name.lower()}.yaml").is_file():
        return _model(name.lower())
    known = _names()
    if name.lower() in known:
        return known[name.lower()]
    if (path / "config.json").is_file():
        return _from_config_file(read_config_file(path / "config.json", approximate=approximate))
    reason = unmodelled().get(name.lower())
    if reason is not None:
        raise InputError(Problem(f"model must be implemented; not: {reason}", repr(name), path="model"))
    choices = [record.key for record in list_models()]
    problem = Problem(
        f"model must be one of {', '.join(choices)}, a hub name of one, or a path to a config.json",
        given=repr(name),
        path="model",
        suggestion=nearest(name.rsplit("/", 1)[-1].lower(), choices) or nearest(name.lower(), known),
    )
    raise InputError(problem)


def is_config_file(name: str) -> bool:
    """Whether the name of a model means a user's `config.json` or the folder of one, not a shipped model."""
    if Path(name).suffix == ".json":
        return True
    return (Path(name) / "config.json").is_file() and name.lower() not in _names()


@cache
def unmodelled() -> Mapping[str, str]:
    """Why there is no model under a name that measured rows have, by the name in lower case."""
    return {name.lower(): reason for name, reason in _name_file("unmodelled").items()}


@cache
def _names() -> Mapping[str, ModelRecord]:
    """Every model by its key, by its hub names, with and without their owner, and by those of benchmarks.

    All are in lower case.
    """
    named: dict[str, ModelRecord] = {}
    for record in list_models():
        for alias in (*record.aliases, *(name.rsplit("/", 1)[-1] for name in record.aliases)):
            named.setdefault(alias.lower(), record)
    for alias, key in _name_file("benchmark_names").items():
        named.setdefault(alias.lower(), _model(key))
    return named | {record.key: record for record in list_models()}


def _name_file(stem: str) -> Mapping[str, str]:
    return read_names(files("model_graphs") / f"{stem}.yaml", f"model_graphs/{stem}.yaml")


def _keys() -> list[str]:
    names = (file.name for file in _FOLDER.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


@cache
def _written(key: str) -> _ModelFile:
    file = validate_file(_ModelFile, _FOLDER / f"{key}.yaml", f"model_graphs/configs/{key}.yaml")
    assert file.key == key, f"{key}.yaml must hold the model of its name"
    return file


@cache
def _model(key: str) -> ModelRecord:
    file = _written(key)
    graph_key = file.config_of or file.key
    origin = _written(graph_key)
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


def _fingerprint(architecture: str, config: ArchitectureConfig) -> str:
    return content_hash(architecture, config.model_dump(mode="json"))


def _from_config_file(file: ConfigFile) -> ModelRecord:
    """The record of a user's file; a shipped model with the same figures lends its graphs."""
    fingerprint = _fingerprint(file.architecture, file.config)
    stored = _stored_as(file)
    source = Provenance(kind=Kind.DATASHEET, source=f"file {file.name} given by the user")
    own = ModelRecord(
        key=f"custom-{fingerprint}",
        architecture=file.architecture,
        config=file.config,
        graph_key=f"custom-{fingerprint}",
        checkpoints={},
        stored=stored,
        notes=(*file.approximation.notes, *file.quantization.notes),
        sources=(source, *_assumed_sources(file)),
        content_hash=content_hash(fingerprint, file.quantization.notes) if stored else fingerprint,
        precision=file.quantization.precision,
        approximates=file.approximation.given,
    )
    for shipped in list_models():
        if shipped.content_hash == fingerprint and shipped.key == shipped.graph_key:
            note = f"the figures of {file.name} are those of {shipped.key}"
            notes, stored = (note, *own.notes), {**shipped.stored, **stored}
            return replace(own, key=shipped.key, graph_key=shipped.key, stored=stored, notes=notes)
    return own


def _stored_as(file: ConfigFile) -> dict[Precision, Storage]:
    """The file's storage under the precision that it asks for and under its own name."""
    storage = file.quantization.storage
    if storage is None:
        return {}
    return {file.quantization.precision: storage, NAME_OF[storage.dtype]: storage}


def _assumed_sources(file: ConfigFile) -> tuple[Provenance, ...]:
    assumed = file.approximation.assumed
    source = f"not in {file.name}: the usual value of {file.architecture}"
    return (Provenance(kind=Kind.ASSUMED, source=source, fields=assumed),) if assumed else ()
