"""A checkpoint's folder: its index against the headers of its shards, byte for byte.

Only safetensors are read: other formats are pickles, which run code of their author when they are opened.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hardware_specs.records.errors import Problem, nearest
from reference_impl.checkpoints.headers import Entry, read_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Folder:
    """The tensors of a checkpoint by name, the names that its index promises, and what is wrong with it."""

    path: Path
    entries: Mapping[str, Entry]
    promised: frozenset[str]
    problems: tuple[Problem, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Its shards, in order."""
        return tuple(sorted({entry.file for entry in self.entries.values()}))

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.n_bytes for entry in self.entries.values())

    def in_file(self, file: str) -> list[Entry]:
        """The tensors of a shard, as they lie in it."""
        found = (entry for entry in self.entries.values() if entry.file == file)
        return sorted(found, key=lambda entry: entry.begin_byte)


@dataclass(frozen=True)
class _Index:
    """The shard of every tensor, and the bytes of all where the index states them."""

    weight_map: Mapping[str, str]
    total_bytes: int | None


def read_folder(path: Path) -> Folder:
    """The folder's tensors; what is wrong with files and index is told, not raised."""
    if (path / INDEX).is_file():
        return _indexed(path)
    if (path / SINGLE).is_file():
        header = read_header(path / SINGLE)
        return Folder(path, header.entries, frozenset(header.entries), header.problems)
    return Folder(path, {}, frozenset(), (_no_weights(path),))


def _no_weights(path: Path) -> Problem:
    requirement = f"must be a folder with {INDEX} or {SINGLE}"
    if not path.is_dir():
        return Problem(requirement, "no folder", str(path))
    names = sorted(file.name for file in path.iterdir())
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        why = "is a pickle, which runs code when it is read: convert it to safetensors"
        return Problem(requirement, f"{pickles[0]}, which {why}", str(path))
    shards = [name for name in names if name.endswith(".safetensors")]
    if shards:
        return Problem(requirement, f"{len(shards)} shards without their index", str(path))
    return Problem(requirement, ", ".join(names[:5]) or "an empty folder", str(path))


def _indexed(path: Path) -> Folder:
    index = _read_index(path / INDEX)
    if isinstance(index, Problem):
        return Folder(path, {}, frozenset(), (index,))
    headers = {file: read_header(path / file) for file in sorted(set(index.weight_map.values()))}
    problems = [problem for header in headers.values() for problem in header.problems]
    entries: dict[str, Entry] = {}
    for file, header in headers.items():
        problems += _names(path, file, set(header.entries), index.weight_map)
        entries |= {name: entry for name, entry in header.entries.items() if name not in entries}
    folder = Folder(path, entries, frozenset(index.weight_map), tuple(problems))
    return Folder(path, entries, folder.promised, (*problems, *_total(folder, index)))


def _read_index(path: Path) -> _Index | Problem:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        return Problem("must be a readable JSON file", str(error), str(path))
    weights = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(file, str) for file in weights.values()):
        return Problem("must map the name of every tensor to its file", file=str(path), path="weight_map")
    outside = [file for file in weights.values() if not _is_shard(file)]
    if outside:
        requirement = "must name safetensors files of the same folder"
        return Problem(requirement, repr(outside[0]), str(path), path="weight_map")
    metadata = data.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return _Index(weights, int(total) if isinstance(total, int | float) else None)


def _is_shard(file: str) -> bool:
    return Path(file).name == file and file.endswith(".safetensors")


def _names(path: Path, file: str, held: set[str], weight_map: Mapping[str, str]) -> Iterator[Problem]:
    """Names that index and shard do not agree on; a shard without a readable header holds none."""
    promised = {name for name, where in weight_map.items() if where == file}
    for name in sorted(promised - held) if held else ():
        requirement, hint = f"must be in {file}, as {INDEX} says", nearest(name, held - promised)
        yield Problem(requirement, file=str(path / file), path=name, suggestion=hint)
    for name in sorted(held - promised):
        given = f"{INDEX} has it in {weight_map[name]}" if name in weight_map else ""
        yield Problem(f"must be in {INDEX} as a tensor of {file}", given, str(path / file), path=name)


def _total(folder: Folder, index: _Index) -> Iterator[Problem]:
    """Bytes of the headers that are not those of the index, where every header could be read."""
    if folder.promised <= folder.entries.keys() and index.total_bytes != folder.n_bytes:
        requirement = f"must be the {folder.n_bytes:,} bytes that the headers of the shards add up to"
        given = "nothing" if index.total_bytes is None else f"{index.total_bytes:,}"
        yield Problem(requirement, given, str(folder.path / INDEX), path="metadata.total_size")
