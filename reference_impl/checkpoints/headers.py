"""Headers of safetensors files: what a shard says it holds, checked against the bytes that it has.

The format: eight bytes with the length of a JSON header, the header, the data. References:
https://github.com/huggingface/safetensors, section Format.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from hardware_specs.records.errors import Problem

_PREFIX_BYTES = 8
_LARGEST_HEADER_BYTES = 100_000_000
#: bytes of an element by its name in a header
ELEMENT_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}


@dataclass(frozen=True)
class Entry:
    """A tensor in a file."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    begin_byte: int
    end_byte: int

    @property
    def n_bytes(self) -> int:
        """Bytes of its data."""
        return self.end_byte - self.begin_byte


@dataclass(frozen=True)
class Header:
    """The tensors of a file by name, and what is wrong with it."""

    entries: Mapping[str, Entry]
    problems: tuple[Problem, ...]


def read_header(path: Path) -> Header:
    """The header of a safetensors file; what is wrong with it is told, not raised."""
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_PREFIX_BYTES), "little")
            text = file.read(length) if length <= min(size_bytes, _LARGEST_HEADER_BYTES) else b""
    except OSError as error:
        return _broken(path, "must be a readable file", error.strerror or str(error))
    if size_bytes < _PREFIX_BYTES or not text or len(text) < length:
        requirement = "must hold the header that its first eight bytes announce"
        return _broken(path, requirement, f"{length:,} bytes announced, {size_bytes:,} in the file")
    try:
        data = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        return _broken(path, "must have a header in JSON", str(error))
    if not isinstance(data, dict):
        return _broken(path, "must have a header that maps names to tensors", type(data).__name__)
    return _checked(path, data, size_bytes - _PREFIX_BYTES - length)


def _broken(path: Path, requirement: str, given: str) -> Header:
    return Header({}, (Problem(requirement, given, str(path)),))


def _checked(path: Path, data: Mapping[str, object], data_bytes: int) -> Header:
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    for name, record in data.items():
        if name == "__metadata__":
            continue
        entry = _entry(name, path.name, record)
        if isinstance(entry, Entry):
            entries[name] = entry
            problems += _sizes(entry, str(path))
        else:
            problems.append(Problem(entry, repr(record)[:80], str(path), path=name))
    end = max((entry.end_byte for entry in entries.values()), default=0)
    if end != data_bytes:
        requirement = f"must have {end:,} bytes of data, as its header says"
        problems.append(Problem(requirement, f"{data_bytes:,} bytes: {_cut(end, data_bytes)}", str(path)))
    return Header(entries, tuple(problems))


def _cut(said: int, found: int) -> str:
    return "the file is truncated" if found < said else "there is more behind the last tensor"


def _entry(name: str, file: str, record: object) -> Entry | str:
    """The entry, or what a record of a header must be."""
    requirement = "must have a dtype, a shape and two data_offsets"
    if not isinstance(record, dict) or not {"dtype", "shape", "data_offsets"} <= record.keys():
        return requirement
    dtype, shape, offsets = record["dtype"], record["shape"], record["data_offsets"]
    if not (_counts(shape) and _counts(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        return requirement
    return Entry(name, file, dtype, tuple(shape), offsets[0], offsets[1])


def _counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _sizes(entry: Entry, file: str) -> Iterator[Problem]:
    if entry.dtype not in ELEMENT_BYTES:
        requirement = f"dtype must be one of {', '.join(ELEMENT_BYTES)}"
        yield Problem(requirement, entry.dtype, file, path=entry.name)
        return
    wanted = prod(entry.shape) * ELEMENT_BYTES[entry.dtype]
    if wanted != entry.n_bytes:
        requirement = f"must take {wanted:,} bytes: {entry.dtype} of shape {list(entry.shape)}"
        yield Problem(requirement, f"{entry.n_bytes:,} bytes", file, path=entry.name)
