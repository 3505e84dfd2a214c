"""A table of kernel shapes priced: rows of one family, dtype and fixed dimensions are one call.

A broken row is answered with its reason and the others are priced. Times are microseconds, as in the tables
of kernel timings that such a file is compared with.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem, nearest
from simulator.costs.estimates import BOUNDS, FloatArray, KernelEstimate
from simulator.costs.library import KernelLibrary

COLUMNS = ("id", "measured", "predicted", "low", "high", "grade", "bound", "reason")
Row = Mapping[str, str]
Fixed = Mapping[str, str]
Varied = Mapping[str, FloatArray]


@dataclass(frozen=True)
class KernelAnswer:
    """One shape: measured and predicted microseconds, or the reason why there is no prediction."""

    id: str
    measured: float | None
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    grade: str = ""
    bound: str = ""
    reason: str = ""

    @property
    def error(self) -> float:
        """Predicted over measured, minus one; nan where either is missing."""
        if self.predicted is None or not self.measured:
            return math.nan
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class _Family:
    """Columns that vary inside one call, columns that are fixed for it, and the call."""

    varied: tuple[str, ...]
    fixed: tuple[str, ...]
    price: Callable[[KernelLibrary, Varied, Fixed], KernelEstimate]


def _gemm(library: KernelLibrary, v: Varied, f: Fixed) -> KernelEstimate:
    return library.gemm(v["m"], v["n"], v["k"], f["dtype"])


def _mla_prefill(library: KernelLibrary, v: Varied, f: Fixed) -> KernelEstimate:
    return library.mla_prefill(v["batch"], v["isl"], v["heads"], f["dtype"])


def _mla_decode(library: KernelLibrary, v: Varied, f: Fixed) -> KernelEstimate:
    return library.mla_decode(v["batch"], v["context"], v["heads"], f["kv_dtype"] or f["dtype"])


def _attention_prefill(library: KernelLibrary, v: Varied, f: Fixed) -> KernelEstimate:
    b, s, h, kv, d, w = (v[name] for name in ("batch", "isl", "heads", "kv_heads", "head_dim", "window"))
    return library.attention_prefill(b, s, h, kv, d, w, f["dtype"], f["kv_dtype"] or f["dtype"])


def _attention_decode(library: KernelLibrary, v: Varied, f: Fixed) -> KernelEstimate:
    h, kv, d, w = (_whole(f, name) for name in ("heads", "kv_heads", "head_dim", "window"))
    return library.attention_decode(v["batch"], v["context"], h, kv, d, w, f["kv_dtype"] or f["dtype"])


def _moe(library: KernelLibrary, v: Varied, f: Fixed) -> KernelEstimate:
    hidden, inter, topk, experts = (_whole(f, name) for name in ("hidden", "inter", "topk", "experts"))
    moe_tp, moe_ep = _whole(f, "moe_tp"), _whole(f, "moe_ep")
    load = f["distribution"] or "balanced"
    return library.moe(v["tokens"], hidden, inter, topk, experts, moe_tp, moe_ep, f["dtype"], load)


def _collective(library: KernelLibrary, v: Varied, f: Fixed) -> KernelEstimate:
    """The file's sizes are those of nccl-tests; the library takes what one rank contributes."""
    n_ranks = _whole(f, "num_ranks")
    contributed = v["message_bytes"] / n_ranks if f["op"] == "all_gather" else v["message_bytes"]
    return library.collective(f["op"], n_ranks, contributed)


_FAMILIES = {
    "gemm": _Family(("m", "n", "k"), ("dtype",), _gemm),
    "mla_prefill": _Family(("batch", "isl", "heads"), ("dtype",), _mla_prefill),
    "mla_decode": _Family(("batch", "context", "heads"), ("dtype", "kv_dtype"), _mla_decode),
    "attention_prefill": _Family(
        ("batch", "isl", "heads", "kv_heads", "head_dim", "window"), ("dtype", "kv_dtype"), _attention_prefill
    ),
    "attention_decode": _Family(
        ("batch", "context"),
        ("dtype", "kv_dtype", "heads", "kv_heads", "head_dim", "window"),
        _attention_decode,
    ),
    "moe": _Family(
        ("tokens",),
        ("dtype", "hidden", "inter", "topk", "experts", "moe_tp", "moe_ep", "distribution"),
        _moe,
    ),
    "collective": _Family(("message_bytes",), ("op", "num_ranks"), _collective),
}
_WORDS = ("dtype", "kv_dtype", "distribution", "op")
_MAY_BE_EMPTY = ("kv_dtype", "distribution", "window")
#: part of a kernel source's name -> the engine whose kernels it belongs to
_ENGINE_OF = {"trt": "trtllm", "cutlass": "trtllm", "vllm": "vllm", "sglang": "sglang", "triton": "sglang"}


def price_shapes(path: Path, system: SystemSpec, backend: str) -> list[KernelAnswer]:
    """An answer for every row of the file, in its order.

    Raises:
        InputError: the file is missing or has no `id` or `family` column, or the backend is unknown.
    """
    rows = _read(path)
    answers: dict[int, KernelAnswer] = {}
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        problems = [replace(problem, file=path.name, line=index + 2) for problem in _problems(row)]
        if problems:
            answers[index] = KernelAnswer(row["id"], _measured(row), reason="; ".join(map(str, problems)))
        else:
            groups[_group(row, backend)].append(index)
    libraries = {engine: KernelLibrary(system, engine) for engine in {backend, *(key[0] for key in groups)}}
    for (engine, *_), members in groups.items():
        priced = _price([rows[index] for index in members], libraries[engine])
        answers |= zip(members, priced, strict=True)
    return [answers[index] for index in range(len(rows))]


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise InputError(Problem("shapes file must exist", str(path)))
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        missing = [name for name in ("id", "family") if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(Problem(f"needs columns {', '.join(missing)}", file=str(path), line=1, column=1))
        return [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]


def _problems(row: Row) -> list[Problem]:
    family = _FAMILIES.get(row["family"])
    if family is None:
        requirement = f"must be one of {', '.join(_FAMILIES)}"
        return [
            Problem(requirement, row["family"], path="family", suggestion=nearest(row["family"], _FAMILIES))
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


def _group(row: Row, backend: str) -> tuple[str, ...]:
    fixed = _FAMILIES[row["family"]].fixed
    return (_engine(row, backend), row["family"], *(row.get(name, "") for name in fixed))


def _engine(row: Row, backend: str) -> str:
    source = row.get("kernel_source", "").lower()
    return next((engine for part, engine in _ENGINE_OF.items() if part in source), backend)


def _price(rows: Sequence[Row], library: KernelLibrary) -> list[KernelAnswer]:
    family = _FAMILIES[rows[0]["family"]]
    varied = {name: np.array([float(row.get(name) or 0) for row in rows]) for name in family.varied}
    fixed = {name: rows[0].get(name, "") for name in family.fixed}
    try:
        estimate = family.price(library, varied, fixed)
    except InputError as error:
        return [KernelAnswer(row["id"], _measured(row), reason=str(error)) for row in rows]
    times_us = 1e6 * np.stack([estimate.latency_s, estimate.low_s, estimate.high_s], axis=-1)
    evidence = f"{library.backend}: {estimate.evidence}"
    priced = zip(rows, times_us.tolist(), estimate.bound.tolist(), strict=True)
    return [
        KernelAnswer(
            id=row["id"],
            measured=_measured(row),
            predicted=predicted,
            low=low,
            high=high,
            grade=estimate.grade.value,
            bound=BOUNDS[bound],
            reason="; ".join((evidence, *_assumed(row))),
        )
        for row, (predicted, low, high), bound in priced
    ]


def _assumed(row: Row) -> list[str]:
    """What the row left open and how it was filled."""
    filled = {"moe": {"distribution": "balanced"}, "mla_decode": {"kv_dtype": row.get("dtype", "")}}
    choices = filled.get(row["family"], {})
    return [f"{name} not stated: {value}" for name, value in choices.items() if not row.get(name)]


def _measured(row: Row) -> float | None:
    try:
        return float(row.get("latency_us", ""))
    except ValueError:
        return None


def _whole(fixed: Fixed, name: str) -> int:
    return int(float(fixed[name] or 0))
