"""Operators of a PyTorch profiler's trace (recorded with shapes) as measured kernel shapes.

An operator that is known here, outermost first, takes the GPU kernels that were launched inside it, matched
by `External id`; their durations add up to its latency. Matrix products in 16 bits or fp8 become GEMMs and
attention over equal or single query lengths becomes prefill or decode. What is not matched is counted.
"""

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError, Problem
from simulator.costs.calibration import Calibrations
from simulator.measured.point_groups import PointGroup
from simulator.measured.shape_points import row_points

Row = dict[str, str]
Sizes = list[list[int]]

#: half precision runs the kernels of bf16 at the same rate
_DTYPES = {
    "c10::BFloat16": "bf16",
    "c10::Half": "bf16",
    "c10::Float8_e4m3fn": "fp8",
    "c10::Float8_e5m2": "fp8",
}


class _UnmatchedError(Exception):
    """Why an operator is none of the kernels that are fitted."""


@dataclass(frozen=True)
class _Op:
    name: str
    start_us: float
    end_us: float
    args: Mapping[str, Any]

    @property
    def sizes(self) -> Sizes:
        """The shape of each input; empty where it is no tensor, or shapes were not recorded."""
        return [size if isinstance(size, list) else [] for size in self.args.get("Input Dims", [])]

    @property
    def dtypes(self) -> list[str]:
        """The type of each input as PyTorch writes it."""
        return list(self.args.get("Input type", []))

    @property
    def concrete(self) -> list[str]:
        """The inputs that are no tensors, as text."""
        return [str(one) for one in self.args.get("Concrete Inputs", [])]


def kineto_points(
    text: str, file: str, system: SystemSpec, stack: str, calibrations: Calibrations, *, cold: bool
) -> tuple[tuple[PointGroup, ...], tuple[str, ...]]:
    """The points of a trace, and a note on each kind of operator and kernel that was not matched.

    Raises:
        InputError: the trace has no operators with shapes, or none that is fitted.
    """
    rows, unmatched = kineto_rows(text, file)
    notes = tuple(f"not matched, {n} times: {why}" for why, n in sorted(unmatched.items()))
    if not rows:
        requirement = "must hold operators that are fitted, with GPU kernels and shapes (record_shapes=True)"
        raise InputError(Problem(requirement, "; ".join(notes) or "none", file))
    lines = [0] * len(rows)
    return row_points(rows, lines, file, system, stack, calibrations, cold=cold), notes


def kineto_rows(text: str, file: str) -> tuple[list[Row], Counter[str]]:
    """Rows with the columns of a table of shapes, and a count of what was not matched, by reason.

    Raises:
        InputError: it is no trace, or events lack their times.
    """
    events = _events(text, file)
    ops = _Ops(events)
    durations: dict[int, float] = defaultdict(float)
    found: dict[int, _Op] = {}
    unmatched: Counter[str] = Counter()
    for event in events:
        if event["cat"] != "kernel":
            continue
        op = ops.known(event.get("args", {}).get("External id"))
        if op is None:
            unmatched[f"kernel {str(event.get('name', '?'))[:60]}"] += 1
        else:
            durations[id(op)] += float(event["dur"])
            found[id(op)] = op
    rows = []
    for key, op in found.items():
        try:
            rows.append({**_KNOWN[op.name](op), "id": op.name, "latency_us": repr(durations[key])})
        except _UnmatchedError as why:
            unmatched[f"{op.name}: {why}"] += 1
    return rows, unmatched


def _events(text: str, file: str) -> list[Mapping[str, Any]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(Problem("must be valid JSON", error.msg, file, error.lineno, error.colno)) from error
    events = content.get("traceEvents") if isinstance(content, dict) else content
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise InputError(Problem("must hold a list of events", file=file, path="traceEvents"))
    used = [(i, event) for i, event in enumerate(events) if _is_used(event)]
    if problems := [problem for i, event in used for problem in _event_problems(event, i, file)]:
        raise InputError(*problems)
    return [event for _, event in used]


def _is_used(event: Mapping[str, Any]) -> bool:
    return event.get("ph") == "X" and event.get("cat") in ("cpu_op", "kernel")


def _event_problems(event: Mapping[str, Any], place: int, file: str) -> Iterator[Problem]:
    for name in ("ts", "dur"):
        given = event.get(name)
        if not isinstance(given, int | float) or not 0 <= given < inf:
            requirement = "must be a number of microseconds that is not negative"
            yield Problem(requirement, repr(given), file, path=f"traceEvents[{place}].{name}")
    if not isinstance(event.get("args", {}), dict):
        yield Problem("must be an object", file=file, path=f"traceEvents[{place}].args")


class _Ops:
    """Operators of the host by their id, and those around them on the same thread."""

    def __init__(self, events: Sequence[Mapping[str, Any]]) -> None:
        self._by_id: dict[object, tuple[object, _Op]] = {}
        threads: dict[object, list[_Op]] = defaultdict(list)
        for event in events:
            if event["cat"] == "cpu_op":
                start, args = float(event["ts"]), event.get("args", {})
                op = _Op(str(event.get("name", "")), start, start + float(event["dur"]), args)
                thread = (event.get("pid"), event.get("tid"))
                threads[thread].append(op)
                self._by_id[args.get("External id")] = (thread, op)
        # of the known operators of a thread only the outermost: none of them overlaps the next
        self._outermost = {thread: list(_outermost(ops)) for thread, ops in threads.items()}
        self._starts = {thread: [op.start_us for op in ops] for thread, ops in self._outermost.items()}

    def known(self, external_id: object) -> _Op | None:
        """The outermost known operator around that of an id, or None."""
        if external_id not in self._by_id:
            return None
        thread, op = self._by_id[external_id]
        place = bisect_right(self._starts[thread], op.start_us) - 1
        around = self._outermost[thread][place] if place >= 0 else None
        return around if around is not None and op.end_us <= around.end_us else None


def _outermost(ops: Sequence[_Op]) -> Iterator[_Op]:
    until = float("-inf")
    for op in sorted((op for op in ops if op.name in _KNOWN), key=lambda op: (op.start_us, -op.end_us)):
        if op.start_us >= until:
            yield op
            until = op.end_us


def _dtype(op: _Op, place: int) -> str:
    name = op.dtypes[place] if place < len(op.dtypes) else "unknown"
    if name not in _DTYPES:
        raise _UnmatchedError(f"inputs of {name}")
    return _DTYPES[name]


def _size(op: _Op, place: int, rank: int) -> list[int]:
    size = op.sizes[place] if place < len(op.sizes) else []
    if len(size) != rank:
        raise _UnmatchedError(f"input {place} has not {rank} dimensions")
    return size


def _product(first: int) -> Callable[[_Op], Row]:
    """[m, k] by [k, n], from the input of that place on."""

    def row(op: _Op) -> Row:
        m, k = _size(op, first, 2)
        n = _size(op, first + 1, 2)[1]
        return {"family": "gemm", "dtype": _dtype(op, first), "m": str(m), "n": str(n), "k": str(k)}

    return row


def _linear(op: _Op) -> Row:
    """[..., k] by the transpose of [n, k]."""
    given = op.sizes[0] if op.sizes else []
    if len(given) < 2:
        raise _UnmatchedError("input 0 has not 2 dimensions or more")
    n, k = _size(op, 1, 2)
    m = 1
    for size in given[:-1]:
        m *= size
    return {"family": "gemm", "dtype": _dtype(op, 0), "m": str(m), "n": str(n), "k": str(k)}


def _attention(heads_at: int, length_at: int, causal_at: int) -> Callable[[_Op], Row]:
    """Scaled dot-product attention of [b, h, s, d] or [b, s, h, d] tensors."""

    def row(op: _Op) -> Row:
        query, key = _size(op, 0, 4), _size(op, 1, 4)
        new, seen = query[length_at], key[length_at]
        shape = {
            "dtype": _dtype(op, 0),
            "batch": query[0],
            "heads": query[heads_at],
            "kv_heads": key[heads_at],
            "head_dim": query[3],
            "window": 0,
        }
        if new == 1:
            named = {"family": "attention_decode", "context": seen}
        elif new == seen and op.concrete[causal_at : causal_at + 1] == ["True"]:
            named = {"family": "attention_prefill", "isl": new}
        else:
            raise _UnmatchedError("neither one query a sequence nor causal over as many keys as queries")
        return {name: str(value) for name, value in {**shape, **named}.items()}

    return row


_KNOWN: dict[str, Callable[[_Op], Row]] = {
    "aten::linear": _linear,
    "aten::mm": _product(0),
    "aten::addmm": _product(1),
    "aten::_scaled_mm": _product(0),
    # (query, key, value, attn_mask, dropout_p, is_causal, ...)
    "aten::scaled_dot_product_attention": _attention(1, 2, 5),
    # (query, key, value, dropout_p, is_causal, ...)
    "aten::_scaled_dot_product_flash_attention": _attention(1, 2, 4),
    # (query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, ...)
    "aten::_flash_attention_forward": _attention(2, 1, 8),
}
