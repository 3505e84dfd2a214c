"""The accuracy card: how far past predictions were from measured runs, shipped with the package.

`accuracy.json` is written by the command that makes `docs/accuracy.md`. It holds `date`, `version`,
`data_hash` and `lines`, each a score with its `split` (dev, calib leave-one-out), suite `name`, `metric`,
counts and percentages.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from simulator.measured.score import ScoreLine


@dataclass(frozen=True)
class AccuracyLine(ScoreLine):
    """The score of one split of the measured rows (dev; calib with its deployment left out or not)."""

    split: str


@dataclass(frozen=True)
class AccuracyCard:
    """The scores of one version against one set of measured files."""

    date: str
    version: str
    data_hash: str
    lines: tuple[AccuracyLine, ...]


@lru_cache
def accuracy_card() -> AccuracyCard | None:
    """The shipped card, or None in a source tree where it was never made."""
    file = files("reports") / "accuracy.json"
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    lines = tuple(AccuracyLine(**line) for line in content["lines"])
    return AccuracyCard(content["date"], content["version"], content["data_hash"], lines)


def accuracy_line() -> str:
    """The card in one line."""
    card = accuracy_card()
    if card is None:
        return "no accuracy card ships with this build"
    shown = [
        f"{one.split} {one.name} {one.metric} {one.median:.1f}% median of {one.answered}"
        for one in card.lines
    ]
    return f"{'; '.join(shown[:4])} (silicast {card.version}, {card.date}; docs/accuracy.md)"
