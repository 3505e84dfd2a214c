"""Content hashes: the same input gives the same hash on every platform."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path


def content_hash(*parts: object) -> str:
    """The first 16 hex digits of the SHA-256 of the parts' canonical JSON (paths: of the file's bytes)."""
    digest = hashlib.sha256()
    for part in parts:
        payload = part.read_bytes() if isinstance(part, Path) else _canonical(part)
        digest.update(len(payload).to_bytes(8, "little"))
        digest.update(payload)
    return digest.hexdigest()[:16]


def _canonical(value: object) -> bytes:
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {"__type__": type(value).__name__, **_plain_mapping(asdict(value))}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, str | bytes):
        return value if isinstance(value, str) else value.hex()
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    if isinstance(value, int | float | bool) or value is None:
        return value
    return str(value)


def _plain_mapping(value: Mapping[str, object]) -> dict[str, object]:
    return {str(key): _plain(item) for key, item in value.items()}
