"""Server options of published benchmark runs, by the rules of the launch scripts that made them.

The serving rows name image, widths and client, not the server's options; the public scripts behind the runs
do. What is taken from them is facts: token budgets, polling and memory options as functions of the client and
the widths.

    References: SemiAnalysisAI/InferenceX (InferenceMAX), benchmarks/dsr1_{fp4,fp8}_b200*.sh,
    dsr1_fp8_h200*.sh, dsr1_*_trt*.sh: scheduler-recv-interval, chunked-prefill-size, mem-fraction-static,
    max-running-requests of SGLang; max_num_tokens = (concurrency + isl + 127) rounded down to 64,
    attention_dp_config of TensorRT-LLM.
"""

from typing import Any

_BLACKWELL = ("b200", "gb200", "b300", "gb300")


def launch_options(
    backend: str, system: str, precision: str, tp: int, isl: int, concurrency: int, day: str
) -> dict[str, Any]:
    """Deployment fields that the scripts of DeepSeek runs set; empty for an engine that they do not cover."""
    blackwell = system.startswith(_BLACKWELL)
    if backend == "trtllm":
        return {"step_tokens": _trtllm_step_tokens(isl, concurrency, day)}
    if backend != "sglang":
        return {}
    if not blackwell:
        return {"step_tokens": 32768, "max_running": 512}
    if precision == "fp8" and tp <= 4:
        small = {"step_tokens": 8192, "max_running": 32, "gpu_memory_fraction": 0.95}
        return small | {"kv_dtype": "fp8", "poll_interval_steps": 10}
    return {
        "step_tokens": 16384 if precision == "fp4" else 32768,
        "max_running": 256 if precision == "fp4" else 128,
        "kv_dtype": "fp8",
        "poll_interval_steps": 30 if concurrency >= 16 else 10,
    }


def _trtllm_step_tokens(isl: int, concurrency: int, day: str) -> int:
    """One prompt beside the decoding sequences; from 2026 at least 8192."""
    fitted = (concurrency + isl + 127) // 64 * 64
    return max(fitted, 8192) if day >= "2026" else fitted
