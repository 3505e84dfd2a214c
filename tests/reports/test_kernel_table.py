from pathlib import Path

import pytest

from hardware_specs.library import load_system
from hardware_specs.records.errors import InputError
from reports.kernel_table import KernelAnswer, price_shapes
from reports.kernel_tables import score_line
from simulator.costs.library import KernelLibrary

H200 = load_system("h200_sxm")


def shapes(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "shapes.csv"
    path.write_text(text)
    return path


def test_rows_are_answered_in_microseconds_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "id,family,dtype,m,n,k,latency_us\nb,gemm,fp8_block,64,7168,2048,12\na,gemm,bf16,128,512,7168,\n"
    first, second = price_shapes(shapes(tmp_path, text), H200, "trtllm")
    expected = KernelLibrary(H200, "trtllm").gemm(64, 7168, 2048, "fp8_block")
    assert (first.id, second.id) == ("b", "a")
    assert first.predicted == pytest.approx(float(expected.latency_s) * 1e6)
    assert first.low < first.predicted < first.high
    assert (first.measured, second.measured) == (12.0, None)


def test_every_family_of_the_schema_is_answered(tmp_path: Path) -> None:
    header = (
        "id,family,dtype,kv_dtype,m,n,k,batch,isl,context,heads,kv_heads,head_dim,window,"
        "tokens,hidden,inter,topk,experts,moe_tp,moe_ep,distribution,op,num_ranks,message_bytes"
    )
    rows = [
        "1,gemm,bf16,,64,512,7168,,,,,,,,,,,,,,,,,,",
        "2,mla_prefill,bf16,,,,,1,4096,,16,,,,,,,,,,,,,,",
        "3,mla_decode,bf16,bf16,,,,32,,4096,16,,,,,,,,,,,,,,",
        "4,attention_prefill,bf16,bf16,,,,1,4096,,64,8,128,0,,,,,,,,,,,",
        "5,attention_decode,bf16,bf16,,,,32,,4096,64,8,128,0,,,,,,,,,,,",
        "6,moe,fp8_block,,,,,,,,,,,,64,7168,2048,8,256,8,1,balanced,,,",
        "7,collective,,,,,,,,,,,,,,,,,,,,,all_gather,8,1048576",
    ]
    answers = price_shapes(shapes(tmp_path, "\n".join([header, *rows]) + "\n"), H200, "trtllm")
    assert [answer.id for answer in answers if answer.predicted is None] == []


def test_an_all_gather_size_is_that_of_nccl_tests(tmp_path: Path) -> None:
    text = "id,family,op,num_ranks,message_bytes\n1,collective,all_gather,8,8388608\n"
    (answer,) = price_shapes(shapes(tmp_path, text), H200, "vllm")
    # each of the eight ranks contributes an eighth of the gathered size
    one = KernelLibrary(H200, "vllm").collective("all_gather", 8, 1048576)
    assert answer.predicted == pytest.approx(float(one.latency_s) * 1e6)


def test_a_kernel_source_chooses_whose_kernels_are_priced(tmp_path: Path) -> None:
    head = "id,family,dtype,kernel_source,tokens,hidden,inter,topk,experts,moe_tp,moe_ep,distribution\n"
    text = head + "1,moe,fp8_block,sglang_fused_moe_triton,64,7168,2048,8,256,8,1,balanced\n"
    (answer,) = price_shapes(shapes(tmp_path, text), H200, "trtllm")
    assert answer.reason.startswith("sglang:")
    assert "moe fp8_block triton on h200_sxm" in answer.reason


def test_a_kernel_source_that_nobody_knows_is_priced_as_the_engine_chooses_and_says_so(
    tmp_path: Path,
) -> None:
    text = "id,family,dtype,kernel_source,m,n,k\n1,gemm,fp8,a_kernel_of_triton,64,7168,2048\n"
    (answer,) = price_shapes(shapes(tmp_path, text), H200, "trtllm")
    expected = KernelLibrary(H200, "trtllm").gemm(64, 7168, 2048, "fp8")
    assert answer.predicted == pytest.approx(float(expected.latency_s) * 1e6)
    assert "a_kernel_of_triton has no entry" in answer.reason


def test_a_row_of_a_table_is_priced_as_its_benchmark_times_it(tmp_path: Path) -> None:
    """Quantising the input is part of TensorRT-LLM's timed call in fp8; dtypes as the tables spell them."""
    text = (
        "id,family,dtype,kernel_source,m,n,k\n"
        "1,gemm,fp8,torch_flow,64,7168,2048\n2,gemm,fp8,,64,7168,2048\n3,gemm,bfloat16,torch_flow,64,7168,2048\n"
    )
    timed, alone, wide = price_shapes(shapes(tmp_path, text), H200, "trtllm")
    assert timed.predicted > alone.predicted + 5
    assert "gemm bf16 cublas" in wide.reason


def test_broken_rows_are_named_by_line_and_the_rest_is_answered(tmp_path: Path) -> None:
    text = "id,family,dtype,m,n,k\n1,gemm,bf16,x,512,-1\n2,gem,bf16,1,1,1\n3,gemm,bf16,64,512,7168\n"
    broken, unknown, right = price_shapes(shapes(tmp_path, text), H200, "trtllm")
    assert "shapes.csv:2  m  " in broken.reason
    assert "shapes.csv:2  k  " in broken.reason
    assert "did you mean gemm?" in unknown.reason
    assert broken.predicted is None
    assert right.predicted is not None


def test_a_missing_file_or_column_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must exist"):
        price_shapes(tmp_path / "absent.csv", H200, "trtllm")
    with pytest.raises(InputError, match="needs columns id"):
        price_shapes(shapes(tmp_path, "family\ngemm\n"), H200, "trtllm")


def test_the_score_line_counts_only_measured_rows() -> None:
    answers = [
        KernelAnswer("1", 10.0, 11.0, 9.0, 12.0, "B", "memory"),
        KernelAnswer("2", None, 5.0, 4.0, 6.0, "B", "memory"),
        KernelAnswer("3", 10.0, reason="broken"),
    ]
    assert score_line(answers) == "2 of 3 shapes answered; 1 measured: MAPE 10.0%, median 10.0%, bias +10.0%"
