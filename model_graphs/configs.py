"""Model configurations: architecture figures by canonical key, hub name or path of a `config.json`.

Field names are those of Hugging Face's DeepseekV3Config. What a file leaves open is an error, never a
default; what this architecture cannot express (another router, biased attention) is refused, not ignored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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

ARCHITECTURE = "DeepseekV3ForCausalLM"

#: keys of a `config.json` that must have one value, because the reference implementation has no other form
_FIXED: Mapping[str, Plain] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "moe_layer_freq": 1,
    "tie_word_embeddings": False,
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RopeScaling(_Record):
    """YaRN: how rotary frequencies are stretched beyond the length of pre-training."""

    factor: float = Field(gt=0)
    original_max_position_embeddings: int = Field(gt=0)
    beta_fast: float = Field(gt=0)
    beta_slow: float = Field(gt=0)
    mscale: float = Field(ge=0)
    mscale_all_dim: float = Field(ge=0)


class DeepSeekV3Config(_Record):
    """Widths and counts of a DeepSeek V3 model: MLA, DeepSeekMoE, YaRN, MTP."""

    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    q_lora_rank: int = Field(gt=0)
    kv_lora_rank: int = Field(gt=0)
    qk_nope_head_dim: int = Field(gt=0)
    qk_rope_head_dim: int = Field(gt=0, multiple_of=2)
    v_head_dim: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    first_k_dense_replace: int = Field(ge=0)
    moe_intermediate_size: int = Field(gt=0)
    n_routed_experts: int = Field(gt=0)
    n_shared_experts: int = Field(ge=1)
    num_experts_per_tok: int = Field(gt=0)
    n_group: int = Field(gt=0)
    topk_group: int = Field(gt=0)
    routed_scaling_factor: float = Field(gt=0)
    norm_topk_prob: bool
    num_nextn_predict_layers: int = Field(ge=0)
    max_position_embeddings: int = Field(gt=0)
    rms_norm_eps: float = Field(gt=0)
    rope_theta: float = Field(gt=0)
    rope_scaling: RopeScaling | None

    @model_validator(mode="after")
    def _routing_is_possible(self) -> Self:
        problems = list(_routing_problems(self))
        if problems:
            raise InputError(*problems)
        return self

    @property
    def qk_head_dim(self) -> int:
        """Width of a query or key head: the part without and the part with rotary position."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_dim(self) -> int:
        """Width of a token's cached latent: the compressed keys and values, and the shared rotary key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def n_moe_layers(self) -> int:
        """Layers whose feed-forward part is a mixture of experts."""
        return self.num_hidden_layers - self.first_k_dense_replace

    @property
    def shared_intermediate_size(self) -> int:
        """Width of the shared experts taken as one."""
        return self.moe_intermediate_size * self.n_shared_experts


def _routing_problems(config: DeepSeekV3Config) -> Iterator[Problem]:
    if config.first_k_dense_replace > config.num_hidden_layers:
        given = str(config.first_k_dense_replace)
        yield Problem("must be at most num_hidden_layers", given, path="first_k_dense_replace")
    if config.n_routed_experts % config.n_group:
        yield Problem("must divide n_routed_experts", str(config.n_group), path="n_group")
    if config.topk_group > config.n_group:
        yield Problem("must be at most n_group", str(config.topk_group), path="topk_group")
    reachable = config.n_routed_experts // config.n_group * config.topk_group
    if config.num_experts_per_tok > reachable:
        given = str(config.num_experts_per_tok)
        yield Problem(
            f"must be at most the {reachable} experts of topk_group groups", given, path="num_experts_per_tok"
        )


class Precision(StrEnum):
    """How a checkpoint stores its weights."""

    BF16 = "bf16"
    FP8 = "fp8"  # e4m3 in 128x128 blocks
    FP4 = "fp4"  # nvfp4 in blocks of 16


class Provenance(_Record):
    """Where figures of a configuration come from: `fields` empty means all that no other entry names."""

    kind: Kind
    source: str = Field(min_length=1)
    fields: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fields_exist(self) -> Self:
        unknown = [name for name in self.fields if name not in DeepSeekV3Config.model_fields]
        if unknown:
            known = DeepSeekV3Config.model_fields
            requirement = "must be a field of the config"
            raise InputError(
                *(Problem(requirement, name, suggestion=nearest(name, known)) for name in unknown)
            )
        return self


class _ModelFile(_Record):
    """A file of `model_graphs/configs`."""

    schema_version: Literal[1]
    key: str
    architecture: Literal["DeepseekV3ForCausalLM"]
    checkpoints: dict[str, Precision] = {}
    notes: tuple[str, ...] = ()
    sources: tuple[Provenance, ...] = Field(min_length=1)
    config_of: str | None = None
    config: DeepSeekV3Config | None = None

    @model_validator(mode="after")
    def _one_config(self) -> Self:
        if (self.config is None) == (self.config_of is None):
            raise InputError(Problem("exactly one of config and config_of must be given"))
        return self


@dataclass(frozen=True)
class ModelRecord:
    """A model that can be asked about. `graph_key` is the name under which its graphs are emitted."""

    key: str
    config: DeepSeekV3Config
    graph_key: str
    checkpoints: Mapping[str, Precision]
    notes: tuple[str, ...]
    sources: tuple[Provenance, ...]
    content_hash: str

    @property
    def aliases(self) -> tuple[str, ...]:
        """Hub names that mean this model."""
        return tuple(self.checkpoints)

    def assumed_fields(self) -> tuple[str, ...]:
        """Fields of the config that the model's source does not state."""
        return tuple(name for entry in self.sources if entry.kind is Kind.ASSUMED for name in entry.fields)


def list_models() -> tuple[ModelRecord, ...]:
    """Every shipped model, by key."""
    return tuple(_registry()[key] for key in sorted(_registry()))


def resolve_model(name: str) -> ModelRecord:
    """The model of a canonical key, a hub name (case does not matter) or a path to a `config.json`.

    Raises:
        InputError: nothing is known under the name, or the file is not a valid config of this architecture.
    """
    names = {alias.lower(): record for record in list_models() for alias in _names(record)}
    if name.lower() in names:
        return names[name.lower()]
    path = Path(name)
    if path.suffix == ".json" or (path / "config.json").is_file():
        return _from_config_json(path if path.suffix == ".json" else path / "config.json")
    choices = [record.key for record in list_models()]
    problem = Problem(
        f"model must be one of {', '.join(choices)}, a hub name of one, or a path to a config.json",
        given=repr(name),
        path="model",
        suggestion=nearest(name.rsplit("/", 1)[-1].lower(), choices) or nearest(name.lower(), names),
    )
    raise InputError(problem)


def _names(record: ModelRecord) -> Iterator[str]:
    """The key, and each hub name with and without its owner."""
    yield record.key
    for alias in record.aliases:
        yield from (alias, alias.rsplit("/", 1)[-1])


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
    config = written[graph_key].config
    assert config is not None, f"{file.key} must take its config from a file that holds one"
    return ModelRecord(
        key=file.key,
        config=config,
        graph_key=graph_key,
        checkpoints=file.checkpoints,
        notes=file.notes,
        sources=file.sources,
        content_hash=content_hash(ARCHITECTURE, config.model_dump(mode="json")),
    )


def _from_config_json(path: Path) -> ModelRecord:
    """The record of a user's file; a shipped model with the same figures lends its graphs."""
    config = read_config_json(path)
    fingerprint = content_hash(ARCHITECTURE, config.model_dump(mode="json"))
    source = Provenance(kind=Kind.DATASHEET, source=f"file {path.name} given by the user")
    for record in list_models():
        if record.content_hash == fingerprint and record.key == record.graph_key:
            note = f"the figures of {path.name} are those of {record.key}"
            return replace(record, checkpoints={}, notes=(note,), sources=(source,))
    key = f"custom-{fingerprint}"
    return ModelRecord(key, config, key, {}, (), (source,), fingerprint)


def read_config_json(path: Path) -> DeepSeekV3Config:
    """The config in a Hugging Face `config.json` of DeepseekV3ForCausalLM.

    Raises:
        InputError: with every problem of the file, at its line and column.
    """
    document = read_document(path)
    if not isinstance(document.data, dict):
        raise InputError(document.place((), Problem("must be a mapping of keys to values")))
    problems = [document.place((key,), problem) for key, problem in _foreign(document.data)]
    if problems:
        raise InputError(*problems)
    kept = {key: document.data[key] for key in DeepSeekV3Config.model_fields if key in document.data}
    scaling = kept.get("rope_scaling")
    if isinstance(scaling, dict):
        kept["rope_scaling"] = {
            key: value for key, value in scaling.items() if key not in ("type", "rope_type")
        }
    return validate_document(DeepSeekV3Config, Document(document.file, kept, document.values, document.keys))


def _foreign(data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
    """What of a `config.json` belongs to another architecture."""
    architectures = data.get("architectures")
    if architectures != [ARCHITECTURE]:
        yield "architectures", Problem(f"must be [{ARCHITECTURE}]", repr(architectures))
    for key, wanted in _FIXED.items():
        if data.get(key, wanted) != wanted:
            yield key, Problem(f"must be {wanted!r} in this architecture", repr(data[key]))
    scaling = data.get("rope_scaling")
    if isinstance(scaling, dict):
        kind = scaling.get("type", scaling.get("rope_type"))
        if kind != "yarn":
            yield "rope_scaling", Problem("type must be 'yarn'", repr(kind))
