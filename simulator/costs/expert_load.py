"""Rows, active experts and row tiles of the busiest expert-parallel rank, for balanced and skewed routing.

Skewed routing follows a power law over experts (the distributions of the kernel tables: `power_law_1.01`
and `power_law_1.2`), drawn with a fixed seed and averaged. The counts are tabulated on a grid of eight
token counts an octave, and read between its points on a logarithmic scale.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hardware_specs.records.errors import InputError, Problem
from simulator.costs.estimates import FloatArray

#: rows of a tile, smallest first
TILE_ROWS = np.array([16.0, 64.0, 128.0])
_N_DRAWS = 6
_SEED = 0
_MAX_LOG2_TOKENS = 20


@dataclass(frozen=True)
class ExpertLoad:
    """Load of the busiest rank, one entry a token count; `tiles` has a column for each of `TILE_ROWS`."""

    rows: FloatArray
    active: FloatArray
    tiles: FloatArray


def expert_load(tokens: FloatArray, n_experts: int, topk: int, moe_ep: int, distribution: str) -> ExpertLoad:
    """Load when each of `tokens` (of all ranks) chooses `topk` of `n_experts` spread over `moe_ep` ranks.

    Raises:
        InputError: the distribution is neither `balanced` nor `power_law_ALPHA`.
    """
    if distribution == "balanced":
        return _balanced(tokens, n_experts, topk, moe_ep)
    grid, stats = _power_law_grid(n_experts, topk, moe_ep, _alpha(distribution))
    position = np.log2(np.maximum(tokens, 1.0))
    columns = [np.exp2(np.interp(position, grid, column)) for column in stats.T]
    beyond = np.maximum(np.asarray(tokens) / 2.0 ** grid[-1], 1.0)
    below = np.minimum(tokens, 1.0)
    rows, active, *tiles = columns
    return ExpertLoad(
        rows * beyond * below, active * below, np.stack(tiles, axis=1) * (beyond * below)[:, None]
    )


def _alpha(distribution: str) -> float:
    prefix, _, alpha = distribution.rpartition("_")
    if prefix != "power_law" or not alpha.replace(".", "", 1).isdigit():
        raise InputError(Problem("expert load must be balanced or power_law_ALPHA", distribution))
    return float(alpha)


def _balanced(tokens: FloatArray, n_experts: int, topk: int, moe_ep: int) -> ExpertLoad:
    rows = tokens * topk / moe_ep
    active = np.minimum(max(1, n_experts // moe_ep), np.maximum(1.0, rows))
    tiles = active[:, None] * np.ceil((rows / active)[:, None] / TILE_ROWS)
    return ExpertLoad(np.asarray(rows), active, tiles)


@lru_cache(maxsize=256)
def _power_law_grid(n_experts: int, topk: int, moe_ep: int, alpha: float) -> tuple[FloatArray, FloatArray]:
    """log2 of the token counts of the grid, and log2 of (rows, active, tiles...) at each."""
    octaves = 2.0 ** np.arange(3, _MAX_LOG2_TOKENS)
    tokens = np.concatenate([np.arange(1.0, 8.0), np.outer(octaves, 1 + np.arange(8) / 8).ravel()])
    stats = np.array([_busiest_rank(int(t), n_experts, topk, moe_ep, alpha) for t in tokens])
    return np.log2(tokens), np.log2(stats)


def _busiest_rank(tokens: int, n_experts: int, topk: int, moe_ep: int, alpha: float) -> FloatArray:
    """Rows, active experts and tiles of the rank with most rows, averaged over draws of the routing."""
    rng = np.random.default_rng(_SEED)
    local = max(1, n_experts // moe_ep)
    draws = []
    for _ in range(_N_DRAWS):
        counts = _routed_counts(rng, tokens, n_experts, topk, alpha)[: local * moe_ep].reshape(moe_ep, local)
        busiest = counts[counts.sum(axis=1).argmax()]
        tiles = np.ceil(busiest[:, None] / TILE_ROWS).sum(axis=0)
        draws.append([busiest.sum(), np.count_nonzero(busiest), *tiles])
    return np.maximum(np.mean(draws, axis=0), [0.01, 0.1, 0.1, 0.1, 0.1])


def _routed_counts(
    rng: np.random.Generator, tokens: int, n_experts: int, topk: int, alpha: float
) -> FloatArray:
    """Rows of each expert: power-law shares of `tokens * topk`, none above `tokens`."""
    total = tokens * topk
    low, high = (1.0, max(1.0001, 0.8 * tokens)) if total > n_experts else (0.01, 2.0)
    weights = _power_law(rng.random(n_experts), alpha, low, high)
    counts = np.minimum(np.round(weights / weights.sum() * total), tokens)
    missing = int(total - counts.sum())
    if missing > 0:
        _hand_out(counts, missing, tokens, rng.permutation(n_experts))
    elif missing < 0:
        _take_back(counts, -missing)
    return np.asarray(counts, np.float64)


def _power_law(uniform: FloatArray, alpha: float, low: float, high: float) -> FloatArray:
    exponent = 1 - alpha
    if abs(exponent) < 1e-9:
        return np.asarray(low * (high / low) ** uniform)
    return np.asarray((low**exponent + uniform * (high**exponent - low**exponent)) ** (1 / exponent))


def _hand_out(counts: FloatArray, missing: int, ceiling: int, turn: NDArray[np.int64]) -> None:
    """Give `missing` rows to the least loaded experts, evenly, in place; `turn` decides among equals.

    Without a random turn, the rows of a small batch would all go to the experts of the first rank.
    """
    while missing > 0:
        order = turn[np.argsort(counts[turn], kind="stable")]
        room = np.minimum(ceiling - counts[order], np.ceil(missing / len(counts)))
        given = np.minimum(np.cumsum(room), missing)
        counts[order] += np.diff(given, prepend=0.0)
        missing -= int(given[-1])


def _take_back(counts: FloatArray, surplus: int) -> None:
    """Take `surplus` rows from the most loaded experts, in place."""
    for expert in np.argsort(-counts, kind="stable"):
        if surplus <= 0:
            return
        taken = min(int(counts[expert]), surplus, max(1, surplus // 4))
        counts[expert] -= taken
        surplus -= taken
