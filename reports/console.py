"""Where results are printed: one console of bounded width, JSON in one form, progress on a terminal only."""

import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

MIN_WIDTH, PIPE_WIDTH, MAX_WIDTH = 80, 100, 120


class Tick(Protocol):
    """Tells a progress bar that `done` of `total` parts are over."""

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""


class _Output(Console):
    """A console that leaves it to the command what a reader that has gone away means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Standard output; as wide as the terminal within bounds, 100 columns in a pipe or file."""
    columns = shutil.get_terminal_size((PIPE_WIDTH, 40)).columns if sys.stdout.isatty() else PIPE_WIDTH
    return _Output(width=min(max(columns, MIN_WIDTH), MAX_WIDTH), highlight=False, soft_wrap=False)


def print_json(content: Mapping[str, object]) -> None:
    """Print JSON with sorted keys; what is not a finite number is null."""
    sys.stdout.write(json_text(content) + "\n")


def json_text(content: Mapping[str, object]) -> str:
    """JSON with sorted keys; what is not a finite number is null, tuples and numpy scalars are plain."""
    return json.dumps(_plain(content), sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)


@contextmanager
def progress(label: str) -> Iterator[Tick]:
    """A bar on standard error while it is a terminal, else nothing. It is gone when the work is done."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    return str(value)
