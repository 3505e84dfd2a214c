import json

import numpy as np
import pytest

from hardware_specs.records.errors import InputError
from simulator.scenario.trace import TraceRow, read_trace, write_mooncake

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0781490,110,27
"""


def test_azure_times_keep_all_seven_digits(tmp_path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    trace = read_trace(path)
    assert not trace.problems
    assert [row.arrival_s for row in trace.rows] == pytest.approx([0.0, 0.052, 0.098189], abs=1e-6)
    assert [(row.input_tokens, row.output_tokens) for row in trace.rows] == [(4808, 10), (3180, 8), (110, 27)]


def test_every_broken_row_is_reported_by_its_line_and_the_rest_is_answered(tmp_path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(
        AZURE + "2023-11-16 25:17:05,1,1\nyesterday,0,x\n\n2023-11-16 18:17:06,7\n2023-11-16 18:17:07.5,8,9\n"
    )
    trace = read_trace(path)
    assert [row.input_tokens for row in trace.rows] == [4808, 3180, 110, 8]
    assert [(problem.line, problem.path) for problem in trace.problems] == [
        (5, "TIMESTAMP"),
        (6, "TIMESTAMP"),
        (6, "ContextTokens"),
        (6, "GeneratedTokens"),
        (8, ""),
    ]
    assert str(trace.problems[1]).startswith(f"{path}:6  TIMESTAMP  must be a time such as 2023")


def test_mooncake_rows_and_their_blocks(tmp_path) -> None:
    path = tmp_path / "mooncake.jsonl"
    path.write_text(
        '{"timestamp": 500, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
        '{"timestamp": 2000, "input_length": 12, "output_length": 3}\n'
    )
    trace = read_trace(path)
    assert trace.rows == (TraceRow(0.0, 6758, 500, (0, 1)), TraceRow(1.5, 12, 3))


def test_broken_mooncake_rows(tmp_path) -> None:
    path = tmp_path / "mooncake.jsonl"
    good = '{"timestamp": 0, "input_length": 1, "output_length": 1}\n'
    bad = [
        '{"timestamp": 0, "input_length": 1, "output_len',
        "[1, 2]",
        '{"timestamp": "soon", "input_length": 0, "output_length": 1.5}',
        '{"timestamp": 0}',
        '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": 3}',
        '{"timestamp": NaN, "input_length": true, "output_length": 1}',
    ]
    path.write_text(good + "\n".join(bad) + "\n" + good)
    trace = read_trace(path)
    assert len(trace.rows) == 2
    assert [problem.line for problem in trace.problems] == [2, 3, 4, 4, 4, 5, 5, 6, 7, 7]


def test_rows_come_in_order_of_arrival(tmp_path) -> None:
    path = tmp_path / "mooncake.jsonl"
    rows = [{"timestamp": t, "input_length": t + 1, "output_length": 1} for t in (300, 100, 200)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert [row.input_tokens for row in read_trace(path).rows] == [101, 201, 301]


def test_what_is_written_is_read_back(tmp_path) -> None:
    rows = (TraceRow(0.0, 5, 6, (1, 2, 3)), TraceRow(0.25, 7, 8))
    write_mooncake(rows, tmp_path / "out.jsonl")
    assert read_trace(tmp_path / "out.jsonl").rows == rows


@pytest.mark.parametrize("content", ["", "a,b,c\n1,2,3\n", "\x00"])
def test_another_format_is_refused(tmp_path, content: str) -> None:
    path = tmp_path / "other.txt"
    path.write_text(content)
    with pytest.raises(InputError, match="must be JSON lines or CSV"):
        read_trace(path)


def test_a_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="must be a readable"):
        read_trace(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("name", "n_rows", "mean_input", "mean_output"),
    [
        ("AzureLLMInferenceTrace_code_2023.csv", 8819, 2048, 28),
        ("AzureLLMInferenceTrace_conv_2023.csv", 19366, 1155, 211),
        ("mooncake_conversation_trace.jsonl", 12031, 12035, 343),
        ("mooncake_synthetic_trace.jsonl", 3993, 15325, 149),
    ],
)
def test_published_traces_are_read_whole(
    data_dir, name: str, n_rows: int, mean_input: int, mean_output: int
) -> None:
    trace = read_trace(data_dir / "traces" / name)
    assert (len(trace.rows), trace.problems) == (n_rows, ())
    assert np.mean([row.input_tokens for row in trace.rows]) == pytest.approx(mean_input, abs=0.51)
    assert np.mean([row.output_tokens for row in trace.rows]) == pytest.approx(mean_output, abs=0.51)
