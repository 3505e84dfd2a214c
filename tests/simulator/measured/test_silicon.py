from importlib.machinery import ModuleSpec
from pathlib import Path

import pandas as pd
import pytest

from hardware_specs.records.errors import InputError
from simulator.measured import silicon


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with one table of two rows."""
    folder = tmp_path / "systems" / "data" / "a100_sxm" / "gemm" / "vllm" / "1.0"
    folder.mkdir(parents=True)
    spec = ModuleSpec(silicon.PACKAGE, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(silicon, "find_spec", lambda name: spec)
    monkeypatch.setattr(silicon, "version", lambda name: silicon.EXPECTED_VERSION)
    rows = pd.DataFrame({"gemm_dtype": ["bfloat16", "fp8"], "m": [1, 2], "latency": [0.5, 2.0]})
    monkeypatch.setattr(
        pd, "read_parquet", lambda path: rows if path == folder / "gemm_perf.parquet" else None
    )
    (folder / "gemm_perf.parquet").touch()
    return tmp_path


def test_latencies_become_seconds_and_dtypes_canonical(tables: Path) -> None:
    rows = silicon.read_table("a100_sxm_80gb", "gemm", "gemm", "vllm", "1.0")
    assert rows["latency_s"].tolist() == [0.5e-3, 2e-3]
    assert rows["gemm_dtype"].tolist() == ["bf16", "fp8"]


def test_a_table_that_is_not_there_is_named(tables: Path) -> None:
    with pytest.raises(InputError, match=r"given h100_sxm gemm/vllm/1\.0/gemm"):
        silicon.read_table("h100_sxm", "gemm", "gemm", "vllm", "1.0")


def test_another_version_of_the_package_is_refused(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silicon, "version", lambda name: "0.13.0")
    with pytest.raises(InputError, match=r"those of aiconfigurator-core 0.12.0; given 0.13.0"):
        silicon.tables_folder()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silicon, "find_spec", lambda name: None)
    assert not silicon.is_installed()
    with pytest.raises(InputError, match=r"silicast\[silicon\]"):
        silicon.tables_folder()
