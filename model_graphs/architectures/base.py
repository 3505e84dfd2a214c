"""What every config of an architecture shares: strict fields, the keys it fixes, and its blueprint.

Field names are those of the architecture's `config.json`. What a file leaves open is an error, never a
default; what the reference implementation cannot express is refused, not ignored.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from hardware_specs.records.errors import Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.blueprint import Blueprint


class Record(BaseModel):
    """Frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(Record):
    """The figures of one model.

    `names` are those under `architectures` of a `config.json`; `fixed` are keys that must have one value
    where they are given, because the reference implementation has no other form.
    """

    names: ClassVar[tuple[str, ...]]
    fixed: ClassVar[Mapping[str, Plain]] = {}

    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    max_position_embeddings: int = Field(gt=0)

    @property
    @abstractmethod
    def blueprint(self) -> Blueprint:
        """What the model is made of."""

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """Keys of a `config.json` that this architecture cannot express, each with its problem."""
        for key, wanted in cls.fixed.items():
            if data.get(key, wanted) != wanted:
                yield key, Problem(f"must be {wanted!r} in this architecture", repr(data[key]))

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """The figures of a `config.json` under this config's own field names."""
        return {key: data[key] for key in cls.model_fields if key in data}


def yarn_magnitude(factor: float, mscale: float = 1.0) -> float:
    """YaRN's correction of attention temperature for a stretch by `factor`.

    References: arXiv 2309.00071, section 3.4.
    """
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
