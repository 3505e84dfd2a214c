"""The columns of a table of kernel shapes by family, and the call of the kernel library that prices them.

Rows that agree in engine, family and fixed columns are one vectorised call. The same table is priced by
`silicast kernels` and fitted by `silicast calibrate`.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware_specs.records.errors import InputError, Problem, nearest
from simulator.costs.estimates import FloatArray, KernelEstimate
from simulator.costs.kernel_choice import BACKENDS
from simulator.costs.kernel_sources import SourceEntry, entry_of
from simulator.costs.library import KernelLibrary

Row = Mapping[str, str]
Fixed = Mapping[str, str]
Varied = Mapping[str, FloatArray]


@dataclass(frozen=True)
class ShapeFamily:
    """Columns that vary inside one call, columns that are fixed for it, and the call."""

    varied: tuple[str, ...]
    fixed: tuple[str, ...]
    price: Callable[[KernelLibrary, Varied, Fixed, bool], KernelEstimate]

    def estimate(self, library: KernelLibrary, rows: Sequence[Row], *, cold: bool = True) -> KernelEstimate:
        """The rows, which agree in the fixed columns, in one call; `cold` as the library's calls have it."""
        varied = {name: np.array([float(row.get(name) or 0) for row in rows]) for name in self.varied}
        fixed = {name: rows[0].get(name, "") for name in self.fixed}
        return self.price(library, varied, fixed, cold)


def _gemm(library: KernelLibrary, v: Varied, f: Fixed, cold: bool) -> KernelEstimate:
    return library.gemm(v["m"], v["n"], v["k"], canonical_dtype(f["dtype"]), cold=cold)


def _mla_prefill(library: KernelLibrary, v: Varied, f: Fixed, cold: bool) -> KernelEstimate:
    return library.mla_prefill(v["batch"], v["isl"], v["heads"], canonical_dtype(f["dtype"]))


def _mla_decode(library: KernelLibrary, v: Varied, f: Fixed, cold: bool) -> KernelEstimate:
    return library.mla_decode(
        v["batch"], v["context"], v["heads"], canonical_dtype(f["kv_dtype"] or f["dtype"]), cold=cold
    )


def _attention_prefill(library: KernelLibrary, v: Varied, f: Fixed, cold: bool) -> KernelEstimate:
    b, s, h, kv, d, w = (v[name] for name in ("batch", "isl", "heads", "kv_heads", "head_dim", "window"))
    return library.attention_prefill(
        b, s, h, kv, d, w, canonical_dtype(f["dtype"]), canonical_dtype(f["kv_dtype"] or f["dtype"])
    )


def _attention_decode(library: KernelLibrary, v: Varied, f: Fixed, cold: bool) -> KernelEstimate:
    h, kv, d, w = (whole(f, name) for name in ("heads", "kv_heads", "head_dim", "window"))
    return library.attention_decode(
        v["batch"], v["context"], h, kv, d, w, canonical_dtype(f["kv_dtype"] or f["dtype"]), cold=cold
    )


def _moe(library: KernelLibrary, v: Varied, f: Fixed, cold: bool) -> KernelEstimate:
    hidden, inter, topk, experts = (whole(f, name) for name in ("hidden", "inter", "topk", "experts"))
    moe_tp, moe_ep = whole(f, "moe_tp"), whole(f, "moe_ep")
    load = f["distribution"] or "balanced"
    return library.moe(
        v["tokens"], hidden, inter, topk, experts, moe_tp, moe_ep, canonical_dtype(f["dtype"]), load
    )


def _collective(library: KernelLibrary, v: Varied, f: Fixed, cold: bool) -> KernelEstimate:
    """The file's sizes are those of nccl-tests; the library takes what one rank contributes."""
    n_ranks = whole(f, "num_ranks")
    contributed = v["message_bytes"] / n_ranks if f["op"] == "all_gather" else v["message_bytes"]
    return library.collective(f["op"], n_ranks, contributed)


FAMILIES = {
    "gemm": ShapeFamily(("m", "n", "k"), ("dtype",), _gemm),
    "mla_prefill": ShapeFamily(("batch", "isl", "heads"), ("dtype",), _mla_prefill),
    "mla_decode": ShapeFamily(("batch", "context", "heads"), ("dtype", "kv_dtype"), _mla_decode),
    "attention_prefill": ShapeFamily(
        ("batch", "isl", "heads", "kv_heads", "head_dim", "window"), ("dtype", "kv_dtype"), _attention_prefill
    ),
    "attention_decode": ShapeFamily(
        ("batch", "context"),
        ("dtype", "kv_dtype", "heads", "kv_heads", "head_dim", "window"),
        _attention_decode,
    ),
    "moe": ShapeFamily(
        ("tokens",),
        ("dtype", "hidden", "inter", "topk", "experts", "moe_tp", "moe_ep", "distribution"),
        _moe,
    ),
    "collective": ShapeFamily(("message_bytes",), ("op", "num_ranks"), _collective),
}
_WORDS = ("dtype", "kv_dtype", "distribution", "op")
_MAY_BE_EMPTY = ("kv_dtype", "distribution", "window")
#: the spellings of the package's tables
_TABLE_DTYPES = {
    "bfloat16": "bf16",
    "w4a16_mxfp4": "mxfp4_bf16",
    "w4a8_mxfp4_mxfp8": "mxfp4_mxfp8",
    "int8_wo": "int8_bf16",
    "int4_wo": "int4_bf16",
    "sq": "int8",
}


def read_shapes(path: Path, needed: Sequence[str] = ("id", "family")) -> list[dict[str, str]]:
    """The rows of the file, in its order, as text; the first is on line 2.

    Raises:
        InputError: the file is missing or is no text, or has not the needed columns.
    """
    if not path.is_file():
        raise InputError(Problem("shapes file must exist", str(path)))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem("must be text in UTF-8", str(error), str(path))) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    given = reader.fieldnames or ()
    missing = [name for name in needed if name not in given]
    if missing:
        requirement = f"needs columns {', '.join(missing)}"
        raise InputError(Problem(requirement, ", ".join(given), str(path), line=1, column=1))
    return [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]


def row_problems(row: Row) -> list[Problem]:
    """What keeps a row from being priced."""
    family = FAMILIES.get(row["family"])
    if family is None:
        requirement = f"must be one of {', '.join(FAMILIES)}"
        return [
            Problem(requirement, row["family"], path="family", suggestion=nearest(row["family"], FAMILIES))
        ]
    numbers = [name for name in (*family.varied, *family.fixed) if name not in _WORDS]
    words = [name for name in family.fixed if name in _WORDS and name not in _MAY_BE_EMPTY]
    problems = [
        Problem("must be a number that is not negative", repr(row.get(n, "")), path=n)
        for n in numbers
        if not _is_count(row, n)
    ]
    return problems + [Problem("must be given", path=name) for name in words if not row.get(name)]


def _is_count(row: Row, name: str) -> bool:
    text = row.get(name, "")
    if not text:
        return name in _MAY_BE_EMPTY
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def call_key(row: Row, backend: str) -> tuple[str, ...]:
    """Engine, kernel (empty: the engine's choice), family and fixed columns: rows of one key are one call."""
    fixed = FAMILIES[row["family"]].fixed
    entry = source_entry(row)
    engine, kernel = (entry.engine, entry.kernel) if entry else (backend, "")
    if engine not in BACKENDS:
        engine = backend
    return (engine, kernel, row["family"], *(row.get(name, "") for name in fixed))


def source_entry(row: Row) -> SourceEntry | None:
    """The entry of the row's kernel source, or None where it names none or one that nobody knows."""
    source = row.get("kernel_source", "")
    if not source:
        return None
    family, dtype = row["family"], row.get("dtype", "")
    if family.endswith(("_decode", "attention_prefill")):
        dtype = row.get("kv_dtype") or dtype
    if family == "collective":
        family, dtype = "custom_all_reduce", "any"
    return entry_of(family, source, canonical_dtype(dtype))


def canonical_dtype(dtype: str) -> str:
    """Our name of a dtype as the tables spell it."""
    return _TABLE_DTYPES.get(dtype, dtype)


def whole(fixed: Fixed, name: str) -> int:
    """A fixed column as a whole number; 0 where it is empty."""
    return int(float(fixed[name] or 0))
