"""Server options of published benchmark runs, by the rules of the launch scripts that made them.

The serving rows name image, widths and client, not the server's options; the public scripts behind the runs
do. What is taken from them is facts: token budgets, polling and memory options as functions of the client and
the widths.

    References: SemiAnalysisAI/InferenceX (InferenceMAX), benchmarks/dsr1_{fp4,fp8}_b200*.sh,
    dsr1_fp8_h200*.sh, dsr1_*_trt*.sh: scheduler-recv-interval, chunked-prefill-size, mem-fraction-static,
    max-running-requests of SGLang; max_num_tokens = (concurrency + isl + 127) rounded down to 64,
    attention_dp_config of TensorRT-LLM; 70b_*_vllm*.sh: kv-cache-dtype fp8 of vLLM's Llama runs.
"""

from typing import Any

#: (inputs, outputs) of two series of runs without a recorded image
_GRIDS = {
    "1024": ({1024, 2048, 4096}, {128, 256, 512}),
    "1000": ({1000, 2000, 4000, 8000}, {100, 200, 500, 1000, 2000}),
}
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


def grid_of(image: str, isl: int, osl: int) -> str:
    """The series that a run belongs to by its lengths and its lack of an image; empty for others."""
    found = (name for name, (inputs, outputs) in _GRIDS.items() if isl in inputs and osl in outputs)
    return "" if image else next(found, "")


def grid_options(backend: str, image: str, isl: int, osl: int) -> dict[str, Any]:
    """Deployment fields of the two series, whose scripts are not public.

    What their TTFT says of their schedulers: one prompt a step in the first series of vLLM and TensorRT-LLM
    (chunks of 2,048 or 8,192 tokens leave two to five times the error), decode beside prompts in the second
    of SGLang.
    """
    grid = grid_of(image, isl, osl)
    if grid == "1024" and backend in ("vllm", "trtllm"):
        return {"prompts_per_step": 1}
    if grid == "1000" and backend == "sglang":
        return {"mixed_chunk": True}
    return {}


def _trtllm_step_tokens(isl: int, concurrency: int, day: str) -> int:
    """One prompt beside the decoding sequences; from 2026 at least 8192."""
    fitted = (concurrency + isl + 127) // 64 * 64
    return max(fitted, 8192) if day >= "2026" else fitted
