"""Which kernel library a serving engine runs for an operator, by generation of the device.

The names are those of the calibration entries. Where an engine has two paths and picks the faster one by
autotuning, `best_of` is set and the library takes the minimum.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hardware_specs.records.errors import InputError, Problem, nearest
from simulator.costs.figures import MIXED_PRODUCTS, dtype_name

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

#: kernels of routed experts, in the order in which one stands in for another
ANY_MOE = (
    *("cutlass", "deepgemm", "triton", "flashinfer", "min_latency"),
    *("trtllm", "vllm_triton", "vllm_flashinfer"),
)

#: what an engine runs for routed experts on a generation without an entry in `_MOE`
_MOE_ELSEWHERE = {"vllm": ("vllm_triton", "triton"), "sglang": ("triton",), "trtllm": ("cutlass",)}

#: (backend, generation) -> dtype -> kernels of the routed experts; other dtypes fall back on `ANY_MOE`
_MOE = {
    # The tables time one CUTLASS kernel at every size. Whole runs of TensorRT-LLM on Hopper agree with it
    # while decoding, and at prompt sizes with the fastest grouped GEMM of the generation (its block-scale
    # path compiles DeepGEMM kernels there), which the tables hold as Triton's.
    ("trtllm", "hopper"): {
        "fp8_block": KernelChoice(("cutlass",), bulk=("triton",)),
        "bf16": KernelChoice(("cutlass",)),
        "fp8": KernelChoice(("cutlass",)),
        "mxfp4_bf16": KernelChoice(("trtllm",)),
    },
    ("trtllm", "blackwell"): {
        "fp8_block": KernelChoice(("deepgemm",), best_of=("deepgemm", "flashinfer")),
        # `min_latency` is left out: enable_min_latency is off, and only used for Llama 4 (llm_args.py)
        "nvfp4": KernelChoice(("cutlass",), best_of=("cutlass", "flashinfer")),
        "bf16": KernelChoice(("cutlass",)),
        "fp8": KernelChoice(("cutlass",)),
        "mxfp4_mxfp8": KernelChoice(("trtllm",)),
        "mxfp4_bf16": KernelChoice(("trtllm",)),
    },
    ("sglang", "hopper"): dict.fromkeys(("fp8_block", "bf16", "mxfp4_bf16"), KernelChoice(("triton",))),
    ("sglang", "blackwell"): dict.fromkeys(
        ("fp8_block", "nvfp4", "bf16", "mxfp4_mxfp8", "mxfp4_bf16"), KernelChoice(("flashinfer",))
    ),
    # vLLM's Triton kernels are tuned apart from SGLang's. Its tables of block-scaled fp8 also time a CUTLASS
    # kernel where experts are spread over ranks, which releases before 0.24 do not run.
    ("vllm", "hopper"): dict.fromkeys(
        ("fp8_block", "bf16", "fp8", "mxfp4_bf16"), KernelChoice(("vllm_triton", "triton"))
    ),
    # Up to release 0.22 vLLM's tables of Blackwell time Triton's kernel for all but 4-bit weights, later ones
    # FlashInfer's, twice as fast. Whole runs of MiniMax-M2.5 on release 0.19 agree: at 128 sequences a layer
    # takes 180 us longer in fp8_block than in nvfp4, where the tables say 205 with Triton's kernel and 60
    # with FlashInfer's.
    # The table of mxfp4 by mxfp8 has no site of gpt-oss: the kernel is the one that SGLang runs.
    ("vllm", "blackwell"): dict.fromkeys(
        ("fp8_block", "bf16", "fp8"), KernelChoice(("vllm_triton", "vllm_flashinfer", "flashinfer"))
    )
    | dict.fromkeys(("nvfp4", "mxfp4_mxfp8", "mxfp4_bf16"), KernelChoice(("vllm_flashinfer", "flashinfer"))),
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


_SHARED_GEMM = {"bf16": "cublas", "fp8_block": "trtllm"}


def gemm_kernels(backend: str, dtype: str) -> KernelChoice:
    """An engine's own fp8 and nvfp4 kernels; bf16 and fp8_block come close to one library for all engines.

    TensorRT-LLM's table of nvfp4 times the quantisation of the input too, an operator of its own here.
    """
    if dtype in _SHARED_GEMM:
        return KernelChoice((_SHARED_GEMM[dtype],))
    order = BACKENDS if dtype == "nvfp4" and backend == "trtllm" else (backend, *BACKENDS)
    return KernelChoice(tuple(dict.fromkeys(order)))


def moe_kernels(backend: str, dtype: str, architecture: str) -> KernelChoice:
    """The routed-expert kernels of an engine, then any that is calibrated."""
    if (backend, architecture) not in _MOE:
        return KernelChoice(tuple(dict.fromkeys(_MOE_ELSEWHERE[backend] + ANY_MOE)))
    choice = _MOE[backend, architecture].get(dtype)
    return replace(choice, kernels=choice.kernels + ANY_MOE) if choice else KernelChoice(ANY_MOE)


def expert_dtype(dtype: str, architecture: str) -> str:
    """The product of routed experts whose weights are of a dtype, as calibration entries name it.

    Blackwell multiplies mxfp4 weights by mxfp8 rows and other generations expand them to 16 bits; a product
    that is named (`mxfp4_bf16`, for an engine that is told to keep rows in 16 bits) stays itself.

    Raises:
        InputError: the dtype is unknown.
    """
    if dtype in MIXED_PRODUCTS:
        return dtype
    weights = dtype_name(dtype)
    if weights != "mxfp4":
        return weights
    return "mxfp4_mxfp8" if architecture == "blackwell" else "mxfp4_bf16"


def decode_compute_dtype(kv_dtype: str, architecture: str) -> str:
    """Blackwell's decode kernels multiply an fp8 cache in fp8; Hopper's expand it to 16 bits first."""
    return "fp8" if kv_dtype == "fp8" and architecture == "blackwell" else "bf16"


def attention_kernels(backend: str, *, windowed: bool = False) -> KernelChoice:
    """Prefill attention: an engine's own kernel where it was measured, then any; that of a window first."""
    return KernelChoice(_with_windowed(dict.fromkeys((backend, "vllm", "trtllm")), windowed=windowed))


def decode_kernels(backend: str, *, grouped: bool, windowed: bool = False) -> KernelChoice:
    """Decode attention has constants of its own for multi-head, grouped queries, and those over a window."""
    kind = "gqa" if grouped else "mha"
    engines = dict.fromkeys((backend, "vllm", "trtllm"))
    names = tuple(f"{name}_{kind}" for name in engines)
    every_shape = () if backend in BACKENDS else (backend,)
    return KernelChoice(every_shape + _with_windowed(names, windowed=grouped and windowed))


def _with_windowed(names: Iterable[str], *, windowed: bool) -> tuple[str, ...]:
    plain = tuple(names)
    return tuple(f"{name}_window" for name in plain) + plain if windowed else plain
