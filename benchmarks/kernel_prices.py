"""Speed of the kernel library: 100,000 shapes of a family in one call, and scalar calls that are remembered.

Prints seconds and the ratio to a numpy pass over as many numbers (vectorised) or to a look-up (scalar).
Run `python -m benchmarks.kernel_prices` from the repository.
"""

from collections.abc import Callable
from time import process_time

import numpy as np

from hardware_specs.library import load_system
from simulator.costs.library import KernelLibrary

N_SHAPES = 100_000
N_REPEATS = 3


def fastest_s(call: Callable[[], object]) -> float:
    """Processor seconds of the fastest of a few runs."""
    times = []
    for _ in range(N_REPEATS):
        start = process_time()
        call()
        times.append(process_time() - start)
    return min(times)


def vectorised() -> dict[str, Callable[[], object]]:
    """One call of each family over `N_SHAPES` shapes."""
    library = KernelLibrary(load_system("h200_sxm"), "vllm")
    rng = np.random.default_rng(0)
    rows, width, depth = (2.0 ** rng.integers(0, top, N_SHAPES) for top in (15, 15, 15))
    tokens = 2.0 ** rng.integers(4, 14, N_SHAPES)
    return {
        "gemm": lambda: library.gemm(rows, width, depth, "fp8_block"),
        "attention_prefill": lambda: library.attention_prefill(1, tokens, 64, 8, 128),
        "attention_decode": lambda: library.attention_decode(rows, tokens, 64, 8, 128),
        "moe": lambda: library.moe(tokens, 7168, 2048, 8, 256, 1, 8),
        "delta_rule": lambda: library.sequences.delta_rule(1, tokens, 16, 64, 128, 128),
    }


def main() -> None:
    """Print the table."""
    numbers = np.random.default_rng(0).random(N_SHAPES)
    one_pass_s = fastest_s(lambda: [np.exp(numbers) for _ in range(20)]) / 20
    for name, call in vectorised().items():
        seconds = fastest_s(call)
        print(f"{name}: {seconds:.3f} s for {N_SHAPES:,} shapes, {seconds / one_pass_s:,.0f} passes of exp")
    library, table = KernelLibrary(load_system("h200_sxm"), "vllm"), {(1, 2, 3): 1.0}
    library.gemm(64, 7168, 2048)
    calls = 20_000
    remembered_s = fastest_s(lambda: [library.gemm(64, 7168, 2048) for _ in range(calls)]) / calls
    lookup_s = fastest_s(lambda: [table[1, 2, 3] for _ in range(calls)]) / calls
    print(f"scalar gemm, remembered: {1e6 * remembered_s:.1f} us, {remembered_s / lookup_s:,.0f} look-ups")


if __name__ == "__main__":
    main()
