"""Rows, active experts and row tiles of the busiest expert-parallel rank, for balanced and skewed routing.

Skewed routing follows a power law over experts (the distributions of the kernel tables: `power_law_1.01`
and `power_law_1.2`), drawn with a fixed seed and averaged. The counts are tabulated on a grid of eight
token counts an octave, and read between its points on a logarithmic scale.

With `_eplb` behind its name, experts were placed by the load of an earlier batch of the same popularity
(DeepSeek's EPLB): the most loaded experts get the redundant copies, whose number stands behind `_eplb`, and
share their rows with them; then, most loaded first, each goes to the rank with least load that has a free
slot. The earlier batch has as many rows and differs by chance.

`power_law` without an exponent has the one that fits measured serving runs (`expert_load.yaml`), and an
interval of it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.fields import NumberQ
from hardware_specs.records.yaml_reader import validate_file
from simulator.costs.estimates import FloatArray

#: rows of a tile, smallest first
TILE_ROWS = np.array([16.0, 64.0, 128.0])
_N_DRAWS = 6
_SEED = 0
_MAX_LOG2_TOKENS = 20
_LAW = re.compile(r"power_law(_(?P<alpha>\d+(\.\d+)?))?(?P<eplb>_eplb(?P<copies>\d*))?")
#: the power law with the exponent that fits measured runs
FITTED_LAW = "power_law"


@dataclass(frozen=True)
class ExpertLoad:
    """Load of the busiest rank, one entry a token count; `tiles` has a column for each of `TILE_ROWS`."""

    rows: FloatArray
    active: FloatArray
    tiles: FloatArray


def expert_load(tokens: FloatArray, n_experts: int, topk: int, moe_ep: int, distribution: str) -> ExpertLoad:
    """Load when each of `tokens` (of all ranks) chooses `topk` of `n_experts` spread over `moe_ep` ranks.

    Raises:
        InputError: the distribution is neither `balanced` nor `power_law_ALPHA`, nor that with `_eplbCOPIES`.
    """
    law = routing_law(distribution, "distribution")
    if law is None:
        return _balanced(tokens, n_experts, topk, moe_ep)
    grid, stats = _power_law_grid(n_experts, topk, moe_ep, law)
    position = np.log2(np.maximum(tokens, 1.0))
    columns = [np.exp2(np.interp(position, grid, column)) for column in stats.T]
    beyond = np.maximum(np.asarray(tokens) / 2.0 ** grid[-1], 1.0)
    below = np.minimum(tokens, 1.0)
    rows, active, *tiles = columns
    return ExpertLoad(
        rows * beyond * below, active * below, np.stack(tiles, axis=1) * (beyond * below)[:, None]
    )


@dataclass(frozen=True)
class RoutingLaw:
    """Exponent of the power law of rows over experts; whether load places experts, with how many copies."""

    alpha: float
    by_load: bool = False
    copies: int = 0


def routing_law(distribution: str, path: str = "") -> RoutingLaw | None:
    """The law that a name stands for; None for balanced load.

    Raises:
        InputError: the name is none of `balanced`, `power_law`, `power_law_ALPHA`, nor with `_eplbCOPIES`.
    """
    if distribution == "balanced":
        return None
    found = _LAW.fullmatch(distribution)
    if found is None:
        forms = "balanced, power_law or power_law_ALPHA, the last two perhaps with _eplb or _eplbCOPIES"
        raise InputError(Problem(f"must be {forms}", distribution, path=path))
    alpha = float(found["alpha"]) if found["alpha"] else fitted_exponent().exponent.value
    return RoutingLaw(alpha, found["eplb"] is not None, int(found["copies"] or 0))


def ends_of_law(distribution: str) -> tuple[str, ...]:
    """The law at both ends of the interval of a fitted exponent; none where the exponent is stated."""
    if not distribution.startswith(FITTED_LAW) or (routing := _LAW.fullmatch(distribution)) is None:
        return ()
    if routing["alpha"]:
        return ()
    fitted, placed = fitted_exponent(), routing["eplb"] or ""
    return tuple(f"{FITTED_LAW}_{end.value:g}{placed}" for end in (fitted.low, fitted.high))


class FittedExponent(BaseModel):
    """The exponent that fits measured runs best, and the ends of its 90% interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    exponent: NumberQ
    low: NumberQ
    high: NumberQ


@lru_cache(maxsize=1)
def fitted_exponent() -> FittedExponent:
    """The shipped exponent; `python -m simulator.measured.calibrate_expert_load` makes it."""
    file = files("hardware_specs") / "calibrations" / "expert_load.yaml"
    return validate_file(FittedExponent, file, "expert_load.yaml")


def _balanced(tokens: FloatArray, n_experts: int, topk: int, moe_ep: int) -> ExpertLoad:
    rows = tokens * topk / moe_ep
    active = np.minimum(max(1, n_experts // moe_ep), np.maximum(1.0, rows))
    tiles = active[:, None] * np.ceil((rows / active)[:, None] / TILE_ROWS)
    return ExpertLoad(np.asarray(rows), active, tiles)


@lru_cache(maxsize=2048)
def _power_law_grid(n_experts: int, topk: int, moe_ep: int, law: RoutingLaw) -> tuple[FloatArray, FloatArray]:
    """log2 of the token counts of the grid, and log2 of (rows, active, tiles...) at each."""
    octaves = 2.0 ** np.arange(3, _MAX_LOG2_TOKENS)
    tokens = np.concatenate([np.arange(1.0, 8.0), np.outer(octaves, 1 + np.arange(8) / 8).ravel()])
    stats = np.array([_busiest_rank(int(t), n_experts, topk, moe_ep, law) for t in tokens])
    return np.log2(tokens), np.log2(stats)


def _busiest_rank(tokens: int, n_experts: int, topk: int, moe_ep: int, law: RoutingLaw) -> FloatArray:
    """Rows, active experts and tiles of the rank with most rows, averaged over draws of the routing."""
    rng, earlier = np.random.default_rng(_SEED), np.random.default_rng(_SEED + 1)
    draws = []
    for _ in range(_N_DRAWS):
        counts = _routed_counts(rng, tokens, n_experts, topk, law.alpha)
        ranks = _by_load(earlier, counts, moe_ep, law.copies) if law.by_load else _in_order(counts, moe_ep)
        busiest = ranks[ranks.sum(axis=1).argmax()]
        tiles = np.ceil(busiest[:, None] / TILE_ROWS).sum(axis=0)
        draws.append([busiest.sum(), np.count_nonzero(busiest), *tiles])
    return np.maximum(np.mean(draws, axis=0), [0.01, 0.1, 0.1, 0.1, 0.1])


def _in_order(counts: FloatArray, moe_ep: int) -> FloatArray:
    """Rows [rank, slot] of experts that lie on ranks in their order."""
    local = max(1, len(counts) // moe_ep)
    return counts[: local * moe_ep].reshape(moe_ep, local)


def _by_load(rng: np.random.Generator, now: FloatArray, moe_ep: int, copies: int) -> FloatArray:
    """Rows [rank, slot] of experts that were placed, and copied, by an earlier batch of as many rows."""
    earlier = rng.multinomial(int(now.sum()), now / now.sum()).astype(np.float64)
    held = np.ones(len(earlier), np.int64)
    for _ in range(copies):
        held[np.argmax(earlier / held)] += 1
    expert = np.repeat(np.arange(len(earlier)), held)
    expert = expert[np.argsort(-(earlier / held)[expert], kind="stable")]
    slots = -(-len(expert) // moe_ep)
    ranks, load, used = np.zeros((moe_ep, slots)), np.zeros(moe_ep), np.zeros(moe_ep, np.int64)
    for one in expert:
        rank = int(np.argmin(np.where(used < slots, load, np.inf)))
        ranks[rank, used[rank]] = now[one] / held[one]
        load[rank] += earlier[one] / held[one]
        used[rank] += 1
    return ranks


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
