"""Answers of fits that leave a deployment out, kept by content: rows, code and shipped data.

Such fits take minutes and are asked twice, by the fit that needs their widths and by the accuracy page. The
folder is `silicast` in the machine's folder for temporary files.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from hardware_specs.records.hashing import content_hash
from simulator.measured.rows import MeasuredRow

Answer = tuple[MeasuredRow, float, float]  # row, TTFT and TPOT in ms

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("hardware_specs", "model_graphs", "simulator")
#: what a run of the fit itself writes
_WRITTEN = "fitted.yaml"


def kept_answers(rows: Sequence[MeasuredRow], make: Callable[[], list[Answer]]) -> list[Answer]:
    """The answers for these rows, made anew where none were kept for this code and data."""
    path = Path(tempfile.gettempdir()) / "silicast" / f"left_out_{_key(rows)}.json"
    own = {row.id: row for row in rows}
    if path.is_file():
        return [(own[name], ttft, tpot) for name, ttft, tpot in json.loads(path.read_text("utf-8"))]
    answers = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps([(row.id, ttft, tpot) for row, ttft, tpot in answers]), "utf-8")
    partial.replace(path)
    return answers


def _key(rows: Sequence[MeasuredRow]) -> str:
    asked = [[row.id, row.scenario.model_dump(mode="json"), dict(row.figures)] for row in rows]
    return content_hash(asked, _code())


@cache
def _code() -> str:
    """Hash of the code and data that an answer depends on."""
    files = (path for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*")))
    kept = [path for path in files if path.suffix in (".py", ".yaml", ".json") and path.name != _WRITTEN]
    return content_hash(*kept)
