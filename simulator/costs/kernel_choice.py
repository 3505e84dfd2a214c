"""Which kernel library a serving engine runs for an operator, by generation of the device.

The names are those of the calibration entries. Where an engine has two paths and picks the faster one by
autotuning, `best_of` is set and the library takes the minimum.
"""

from dataclasses import dataclass, replace

from hardware_specs.records.errors import InputError, Problem, nearest

BACKENDS = ("vllm", "sglang", "trtllm")


@dataclass(frozen=True)
class KernelChoice:
    """Kernel libraries in order of preference; those of `best_of` compete where they are calibrated.

    Those of `bulk` take over calls of `BULK_TOKENS` tokens or more where they are faster.
    """

    kernels: tuple[str, ...]
    best_of: tuple[str, ...] = ()
    bulk: tuple[str, ...] = ()


#: tokens from which an engine's bulk kernels may take over
BULK_TOKENS = 1024

_ANY_MOE = ("cutlass", "deepgemm", "triton", "flashinfer", "min_latency")

#: (backend, generation) -> dtype -> kernels of the routed experts; other dtypes fall back on `_ANY_MOE`
_MOE = {
    # The tables time one CUTLASS kernel at every size. Whole runs of TensorRT-LLM on Hopper agree with it
    # while decoding, and at prompt sizes with the fastest grouped GEMM of the generation (its block-scale
    # path compiles DeepGEMM kernels there), which the tables hold as Triton's.
    ("trtllm", "hopper"): {
        "fp8_block": KernelChoice(("cutlass",), bulk=("triton",)),
        "bf16": KernelChoice(("cutlass",)),
    },
    ("trtllm", "blackwell"): {
        "fp8_block": KernelChoice(("deepgemm",), best_of=("deepgemm", "flashinfer")),
        # `min_latency` is left out: enable_min_latency is off, and only used for Llama 4 (llm_args.py)
        "nvfp4": KernelChoice(("cutlass",), best_of=("cutlass", "flashinfer")),
        "bf16": KernelChoice(("cutlass",)),
    },
    ("sglang", "hopper"): {"fp8_block": KernelChoice(("triton",)), "bf16": KernelChoice(("triton",))},
    ("sglang", "blackwell"): {
        "fp8_block": KernelChoice(("flashinfer",)),
        "nvfp4": KernelChoice(("flashinfer",)),
        "bf16": KernelChoice(("flashinfer",)),
    },
    ("vllm", "hopper"): {"fp8_block": KernelChoice(("triton",)), "bf16": KernelChoice(("triton",))},
    ("vllm", "blackwell"): {
        "fp8_block": KernelChoice(("flashinfer",)),
        "nvfp4": KernelChoice(("flashinfer",)),
        "bf16": KernelChoice(("flashinfer",)),
    },
}


def check_backend(backend: str) -> str:
    """The backend, if it is known.

    Raises:
        InputError: it is not.
    """
    if backend not in BACKENDS:
        raise InputError(
            Problem(
                f"backend must be one of {', '.join(BACKENDS)}",
                backend,
                suggestion=nearest(backend, BACKENDS),
            )
        )
    return backend


def gemm_kernels(backend: str, dtype: str) -> KernelChoice:
    """An engine's own fp8 and nvfp4 kernels; bf16 and fp8_block come close to one library for all engines."""
    shared = {"bf16": ("cublas",), "fp8_block": ("trtllm",)}.get(dtype)
    return KernelChoice(shared or tuple(dict.fromkeys((backend, *BACKENDS))))


def moe_kernels(backend: str, dtype: str, architecture: str) -> KernelChoice:
    """The routed-expert kernels of an engine; on a device of another generation, any that is calibrated."""
    choice = _MOE.get((backend, architecture), {}).get(dtype)
    return replace(choice, kernels=choice.kernels + _ANY_MOE) if choice else KernelChoice(_ANY_MOE)


def mla_compute_dtype(kv_dtype: str, architecture: str) -> str:
    """Blackwell's MLA kernels multiply an fp8 cache in fp8; Hopper's expand it to 16 bits first."""
    return "fp8" if kv_dtype == "fp8" and architecture == "blackwell" else "bf16"


def attention_kernels(backend: str) -> KernelChoice:
    """Prefill attention: an engine's own kernel where it was measured, then any."""
    return KernelChoice(tuple(dict.fromkeys((backend, "vllm", "trtllm"))))


def decode_kernels(backend: str, *, grouped: bool) -> KernelChoice:
    """Decode attention has one set of constants for grouped queries and one for multi-head attention."""
    kind = "gqa" if grouped else "mha"
    return KernelChoice(tuple(f"{name}_{kind}" for name in dict.fromkeys((backend, "vllm", "trtllm"))))
