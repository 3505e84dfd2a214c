"""Fixtures that every test may use: where the measured data is, or why a test skips."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of measured data (`SILICAST_DATA`, default `../shared`); skips without it."""
    folder = Path(os.environ.get("SILICAST_DATA", REPOSITORY.parent / "shared"))
    if not (folder / "measured").is_dir():
        pytest.skip(f"no measured data in {folder}; set SILICAST_DATA")
    return folder


@pytest.fixture(scope="session")
def named_in_rows(data_dir: Path) -> Callable[..., set[tuple[str, str]]]:
    """(file, name) of all that these columns name in the rows of serving runs and of published figures."""

    def named(*columns: str) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for pattern in ("serving_*.csv", "figures_*.csv"):
            for path in (data_dir / "measured").glob(pattern):
                with path.open(encoding="utf-8", newline="") as file:
                    rows = csv.DictReader(file)
                    found |= {(path.name, row[name]) for row in rows for name in columns if row.get(name)}
        return found

    return named
