"""What changes in borrowed GEMM constants on a processor without a matrix unit.

A GPU's tile has sixteen rows at least, so that a product of one row computes fifteen for nothing; small tiles
leave its matrix units idle; its operands come from a scratchpad at few elements per FLOP. A vector core
multiplies a single row as fast as it loads it. These are facts of the cores, not fits: what is borrowed
beside them stays at the grade of a guess. Not modelled: grouped products of experts, which keep tiles of
sixteen rows and come out two to three times too slow where an expert has a row or two.
"""

from dataclasses import replace
from typing import Any

from simulator.costs.gemm import GemmConstants

#: architecture -> bf16 elements loaded a cycle over FLOP a cycle: two loads of 64 bytes beside two 512-bit
#: units of 32 pairs; three loads of 16 bytes beside two BFMMLA of 16 multiply-adds
OPERANDS_PER_FLOP = {"zen5": 64 / 128, "neoverse_v2": 24 / 64}


def on_vector_cores(constants: Any, architecture: str) -> Any:
    """The constants as they are, or with rows and operands of a vector core in those of a GEMM."""
    if not isinstance(constants, GemmConstants) or architecture not in OPERANDS_PER_FLOP:
        return constants
    rate = OPERANDS_PER_FLOP[architecture]
    return replace(constants, tiling="rows", small_tile_penalty=0.0, operand_rate=rate)
