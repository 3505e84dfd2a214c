"""Fixtures that every test may use: where the measured data is, or why a test skips."""

import os
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
