"""Recurrent mixers: Mamba-2's scan and the gated delta rule, in chunks or step by step. Nothing is fitted.

A step of one token moves the state of every sequence and computes next to nothing. Several tokens a sequence
are worked on in chunks whose products run on matrix units: the time is that of the bytes or that of a batched
GEMM of as many FLOP, whichever is longer. Both borrow constants of other families, so the grade is D.

References: Mamba-2 (arXiv 2405.21060) section 6; Gated DeltaNet (arXiv 2412.06464) section 3.3.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hardware_specs.records.errors import InputError, Problem
from model_graphs.graph import Operator
from simulator.costs.estimates import FloatArray, KernelEstimate
from simulator.costs.library import KernelLibrary
from simulator.costs.pricing import from_threshold, weakened


def recurrence(
    library: KernelLibrary, operator: Operator, traffic_bytes: FloatArray, bindings: Mapping[str, Any]
) -> KernelEstimate:
    """Latency of the scan of `S` new tokens for each of `B` sequences, which moves `traffic_bytes`.

    Raises:
        InputError: the operator lacks the attributes that say how its chunks look.
    """
    missing = [name for name in ("n_heads", "chunk") if name not in operator.attrs]
    if missing:
        raise InputError(*(Problem(f"operator must carry {name}", path=operator.name) for name in missing))
    moved = library.bandwidth_bound(traffic_bytes, operator.kind)
    new = np.asarray(bindings.get("S", 1), np.float64)
    if np.all(new <= 1):
        return weakened(moved, f"{operator.kind}: no table fitted, priced by the bytes of its state")
    computed = _products(library, operator, new, bindings)
    longer = from_threshold(moved, computed, computed.latency_s > moved.latency_s)
    return weakened(longer, f"{operator.kind}: no table fitted, priced by its bytes or as a batched GEMM")


def _products(
    library: KernelLibrary, operator: Operator, new: FloatArray, bindings: Mapping[str, Any]
) -> KernelEstimate:
    """A GEMM for each head and chunk with the work of all of the operator's products."""
    heads, chunk = int(operator.attrs["n_heads"]), int(operator.attrs["chunk"])
    width = int(operator.outputs[0].shape[-1])
    n_chunks = np.ceil(new / chunk)
    batch, rows = np.asarray(bindings["B"]) * heads * n_chunks, new / n_chunks
    depth = operator.flop.evaluate(bindings) / (2 * batch * rows * width)
    return library.batched_gemm(batch, rows, width, depth)
