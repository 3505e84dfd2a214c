"""Reader of the kernel timings in `aiconfigurator-core` (NVIDIA, Apache-2.0), behind all fitted constants.

Reads one parquet table of one device and framework version at a time, in memory; latencies become seconds
and dtype names canonical. The package is the extra `[silicon]`. Its end-to-end sample is not read here or
anywhere.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from hardware_specs.records.errors import InputError, Problem

PACKAGE = "aiconfigurator_core"
EXPECTED_VERSION = "0.12.0"
#: our device keys to the package's folders, where they differ
_FOLDERS = {
    "a100_sxm_80gb": "a100_sxm",
    "rtx_pro_6000": "rtx_pro_6000_server",
    "arc_pro_b60": "b60",
}
_SECONDS_PER_MILLISECOND = 1e-3
_DTYPE_COLUMNS = (
    "gemm_dtype",
    "bmm_dtype",
    "moe_dtype",
    "attn_dtype",
    "mla_dtype",
    "kv_cache_dtype",
    "comm_dtype",
)
_DTYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "w4a16_mxfp4": "mxfp4_bf16",
    "w4a8_mxfp4_mxfp8": "mxfp4_mxfp8",
    "int8_wo": "int8_bf16",
    "int4_wo": "int4_bf16",
    "sq": "int8",
    "fp4": "nvfp4",
}


def is_installed() -> bool:
    """Whether the kernel tables are there."""
    return find_spec(PACKAGE) is not None


def tables_folder() -> Path:
    """The folder of the kernel tables.

    Raises:
        InputError: the package is absent or has another version than the one that the split was made for.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            Problem("needs the extra silicon: pip install 'silicast[silicon]'", "no kernel tables")
        )
    found = version("aiconfigurator-core")
    if found != EXPECTED_VERSION:
        raise InputError(
            Problem(f"kernel tables must be those of aiconfigurator-core {EXPECTED_VERSION}", found)
        )
    return Path(spec.origin).parent / "systems" / "data"


def device_folder(device: str) -> Path:
    """The folder of a device's tables."""
    return tables_folder() / _FOLDERS.get(device, device)


def canonical(dtype: str) -> str:
    """Our name of a dtype of the tables."""
    return _DTYPES.get(dtype, dtype)


def read_table(device: str, folder: str, table: str, framework: str, release: str) -> pd.DataFrame:
    """One table, such as ("h200_sxm", "gemm", "gemm", "trtllm", "1.3.0rc20"), with a column `latency_s`.

    Raises:
        InputError: there is no such table.
    """
    path = device_folder(device) / folder / framework / release / f"{table}_perf.parquet"
    if not path.is_file():
        given = f"{device} {folder}/{framework}/{release}/{table}"
        raise InputError(Problem("kernel table must exist in the package", given))
    rows = pd.read_parquet(path)
    for column in _DTYPE_COLUMNS:
        if column in rows:
            rows[column] = rows[column].replace(_DTYPES)
    if "latency" in rows:
        rows["latency_s"] = rows["latency"].astype(float) * _SECONDS_PER_MILLISECOND
    return rows
