"""Answers that take minutes and are asked more than once, kept by content: rows, code and shipped data.

Such are the answers of fits that leave a deployment out, asked by the fit that needs their widths and by the
accuracy page, and the scores of kernels. The folder is `silicast` in the machine's temporary folder.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hardware_specs.records.hashing import content_hash
from simulator.measured.rows import MeasuredRow

Answer = tuple[MeasuredRow, float, float]  # row, TTFT and TPOT in ms

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("hardware_specs", "model_graphs", "simulator")
#: what a run of the fit itself writes
_WRITTEN = "fitted.yaml"


def kept_answers(rows: Sequence[MeasuredRow], make: Callable[[], list[Answer]]) -> list[Answer]:
    """The answers for these rows, made anew where none were kept for this code and data."""
    own = {row.id: row for row in rows}

    def written() -> list[tuple[str, float, float]]:
        return [(row.id, ttft, tpot) for row, ttft, tpot in make()]

    return [(own[name], ttft, tpot) for name, ttft, tpot in kept(f"left_out_{_key(rows)}", written)]


def kept(name: str, make: Callable[[], Any]) -> Any:
    """What was kept under this name, or else is made now: anything that JSON can hold."""
    path = Path(tempfile.gettempdir()) / "silicast" / f"{name}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(make()), "utf-8")
        partial.replace(path)
    return json.loads(path.read_text("utf-8"))


def _key(rows: Sequence[MeasuredRow]) -> str:
    asked = [[row.id, row.scenario.model_dump(mode="json"), dict(row.figures)] for row in rows]
    return content_hash(asked, _code())


@cache
def _code() -> str:
    """Hash of the code and data that an answer depends on."""
    files = (path for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*")))
    kept = [path for path in files if path.suffix in (".py", ".yaml", ".json") and path.name != _WRITTEN]
    return content_hash(*kept)
