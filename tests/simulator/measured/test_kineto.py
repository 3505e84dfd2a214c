import json
from typing import Any

import pytest

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError
from simulator.costs.calibration import shipped_calibrations
from simulator.measured.kineto import kineto_points, kineto_rows

BF16, FP8 = "c10::BFloat16", "c10::Float8_e4m3fn"


def op(name: str, number: int, start: float, length: float, dims: Any, *types: str, more: Any = ()) -> Any:
    args = {"External id": number, "Input Dims": dims, "Input type": list(types), "Concrete Inputs": more}
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": 1, "ts": start, "dur": length} | {
        "args": args
    }


def kernel(number: int | None, length: float, name: str = "gemm") -> Any:
    args = {"correlation": 7} if number is None else {"External id": number, "correlation": 7}
    return {
        "ph": "X",
        "cat": "kernel",
        "name": name,
        "pid": 0,
        "tid": 7,
        "ts": 99,
        "dur": length,
        "args": args,
    }


def trace(*events: Any) -> str:
    return json.dumps({"schemaVersion": 1, "traceEvents": list(events)})


def test_the_outermost_known_operator_takes_the_kernels_inside_it() -> None:
    # linear [2, 8, 64] by [32, 64] runs addmm, whose kernel and split-K reduction take 5 and 2 us
    text = trace(
        op("aten::linear", 1, 0, 10, [[2, 8, 64], [32, 64], [32]], BF16, BF16, BF16),
        op("aten::addmm", 2, 1, 8, [[32], [16, 64], [64, 32]], BF16, BF16, BF16),
        kernel(2, 5.0),
        kernel(2, 2.0, "splitKreduce"),
        op("aten::mm", 3, 20, 5, [[16, 64], [64, 48]], BF16, BF16),
        kernel(3, 4.0),
    )
    rows, unmatched = kineto_rows(text, "t.json")
    shapes = [{name: row[name] for name in ("m", "n", "k", "dtype", "latency_us")} for row in rows]
    assert shapes == [
        {"m": "16", "n": "32", "k": "64", "dtype": "bf16", "latency_us": "7.0"},
        {"m": "16", "n": "48", "k": "64", "dtype": "bf16", "latency_us": "4.0"},
    ]
    assert not unmatched


def test_attention_is_a_prefill_when_causal_and_a_decode_of_one_query() -> None:
    name = "aten::scaled_dot_product_attention"
    many, one, kv = [2, 32, 128, 64], [2, 32, 1, 64], [2, 8, 128, 64]
    text = trace(
        op(name, 1, 0, 1, [many, kv, kv], BF16, more=["", "", "", "", "0.", "True"]),
        op(name, 2, 2, 1, [one, kv, kv], BF16, more=["", "", "", "", "0.", "False"]),
        op(name, 3, 4, 1, [many, kv, kv], BF16, more=["", "", "", "", "0.", "False"]),
        *(kernel(number, 3.0) for number in (1, 2, 3)),
    )
    rows, unmatched = kineto_rows(text, "t.json")
    assert [(row["family"], row.get("isl"), row.get("context")) for row in rows] == [
        ("attention_prefill", "128", None),
        ("attention_decode", None, "128"),
    ]
    assert [(row["heads"], row["kv_heads"], row["head_dim"]) for row in rows] == [("32", "8", "64")] * 2
    assert sum(unmatched.values()) == 1


def test_what_is_not_matched_is_counted_by_reason() -> None:
    text = trace(
        op("aten::mm", 1, 0, 1, [[4, 4], [4, 4]], "float", "float"),
        op("aten::add", 2, 2, 1, [[4], [4]], BF16, BF16),
        op("aten::_scaled_mm", 3, 4, 1, [[64, 128], [128, 256]], FP8, FP8),
        kernel(1, 3.0),
        kernel(2, 3.0, "add_kernel"),
        kernel(2, 3.0, "add_kernel"),
        kernel(None, 3.0, "graph_kernel"),
        kernel(3, 3.0),
    )
    rows, unmatched = kineto_rows(text, "t.json")
    assert [row["dtype"] for row in rows] == ["fp8"]
    assert unmatched == {
        "aten::mm: inputs of float": 1,
        "kernel add_kernel": 2,
        "kernel graph_kernel": 1,
    }


def test_points_of_a_trace_are_those_of_the_kernels_that_they_ask_for() -> None:
    ops = [op("aten::mm", m, 10 * m, 5, [[m, 64], [64, 256]], BF16, BF16) for m in range(1, 9)]
    text = trace(*ops, *(kernel(m, 3.0 + m) for m in range(1, 9)))
    others = shipped_calibrations().without("h200_sxm")
    (group,), notes = kineto_points(text, "t.json", load_system("h200_sxm"), "trtllm", others, cold=True)
    assert (group.label, len(group), set(group.sites), notes) == ("gemm bf16 cublas", 8, {"256,64"}, ())


def test_a_trace_without_matched_operators_is_refused_with_what_it_has() -> None:
    with pytest.raises(InputError, match=r"record_shapes=True.*kernel add_kernel"):
        kineto_points(
            trace(kernel(5, 1.0, "add_kernel")),
            "t.json",
            load_system("h200_sxm"),
            "trtllm",
            shipped_calibrations(),
            cold=True,
        )
