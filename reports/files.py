"""The one way a file is written: complete or not at all, through a temporary neighbour that is renamed."""

import os
import tempfile
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text; a reader sees the old file or the whole new one.

    Raises:
        InputError: the folder is missing, or the place cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes under the promise of `write_text`."""
    check_writable(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _refusal(path, f"must be in a folder that can be written ({error.strerror})") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(path: Path) -> None:
    """Refuse an output path early, before the minutes of work whose result it is for."""
    if path.is_dir():
        raise _refusal(path, "must name a file, not a folder")
    if not path.parent.is_dir():
        raise _refusal(path, "must be in a folder that exists")
    if not os.access(path.parent, os.W_OK):
        raise _refusal(path, "must be in a folder that can be written")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _refusal(path: Path, requirement: str) -> InputError:
    return InputError(Problem(requirement=f"output {requirement}", given=str(path)))
