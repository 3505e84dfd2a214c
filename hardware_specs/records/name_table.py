"""Tables of names in YAML: what stands behind a name, or why nothing does."""

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hardware_specs.records.yaml_reader import validate_file


class NameTable(BaseModel):
    """The file: every name with its text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    names: dict[str, str]


def read_names(file: Traversable, shown: str) -> Mapping[str, str]:
    """The names of a table; `shown` is how errors call the file."""
    return validate_file(NameTable, file, shown).names
