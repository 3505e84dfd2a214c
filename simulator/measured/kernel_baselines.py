"""What simpler predictors reach on the same rows: fitted rooflines, table interpolation, a random forest.

Each learns from rows of some sites and predicts the rows of others. The forest needs scikit-learn, which
only this benchmark uses; without it there is no forest.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

from simulator.costs.estimates import FloatArray
from simulator.costs.figures import product_types
from simulator.costs.kernel_choice import decode_compute_dtype
from simulator.costs.marching import MARCHING
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.kernel_map import MAX_POINTS, sampled
from simulator.measured.map_fit import soft_l1

#: predicted latencies in seconds of the second rows, learned from the first
Baseline = Callable[[KernelCase, Rows, Rows], FloatArray]

_NEIGHBOUR_SITES = 4
_NEIGHBOUR_ROWS = 4
_UNLIKE = 100.0  # octaves between different words
_N_TREES = 20
_LEAST_S = 1e-12  # where a kernel multiplies nothing
_FOREST_ROWS = 2000


def _seconds(rows: Rows) -> FloatArray:
    return np.asarray(rows["latency_s"].to_numpy(np.float64))


def fitted_roofline(case: KernelCase, known: Rows, asked: Rows) -> FloatArray:
    """A launch, and peak or bandwidth at an efficiency of its own each, fitted as the formulas are."""
    known = sampled(known, MAX_POINTS)
    terms, measured = _terms(case, known), np.log(_seconds(known))

    def predicted(logs: FloatArray, of: FloatArray) -> FloatArray:
        return np.asarray(np.exp(logs[0]) + (of * np.exp(logs[1:])[:, None]).max(axis=0))

    def missed(logs: FloatArray) -> FloatArray:
        return soft_l1(np.log(predicted(logs, terms)) - measured)

    start = np.log([5e-6, *[1.5] * len(terms)])
    with np.errstate(over="ignore"):
        found = least_squares(missed, start, max_nfev=60).x
    return predicted(found, _terms(case, asked))


def _terms(case: KernelCase, rows: Rows) -> FloatArray:
    """Seconds at peak and at full bandwidth, [terms, calls]; of a collective those on the wire."""
    shape = case.shape(rows)
    if not hasattr(shape, "flop"):
        return case.roofline_s(shape)[None]
    compute_s = shape.flop / case.device.peak_or_bf16(_multiplied(case))
    return np.stack([compute_s, shape.traffic_bytes / case.device.bandwidth_bytes_per_s])


def _multiplied(case: KernelCase) -> str:
    """What the products of a kernel multiply."""
    if case.family in MARCHING:
        return "fp8" if case.family == "index_scores" else "bf16"
    if case.family in ("attention_decode", "mla_decode"):
        return decode_compute_dtype(case.dtype, case.device.architecture)
    return product_types(case.dtype)[1]


def interpolated(case: KernelCase, known: Rows, asked: Rows) -> FloatArray:
    """Measured shares of the roofline: along the sweep of a site, between the nearest sites by distance."""
    share = case.roofline_s(case.shape(known)) / _seconds(known)
    columns = [c for c in known.columns if c not in ("latency_s", "site")]
    of_site = _site_coordinates(known)
    at_known, at_asked = _sweep(known, known, columns), _sweep(known, asked, columns)
    sites, index = np.unique(known["site"].to_numpy(str), return_inverse=True)
    places = np.stack([of_site[index == i][0] for i in range(len(sites))])
    trees = [(cKDTree(at_known[index == i]), share[index == i]) for i in range(len(sites))]
    found = np.empty(len(asked))
    asked_sites = asked["site"].to_numpy(str)
    for site in np.unique(asked_sites):
        rows = np.flatnonzero(asked_sites == site)
        distance = np.linalg.norm(places - _site_coordinates(asked.iloc[rows[:1]])[0], axis=1)
        near = np.argsort(distance)[:_NEIGHBOUR_SITES]
        shares = np.stack([_along_sweep(trees[i], at_asked[rows]) for i in near])
        found[rows] = np.average(shares, axis=0, weights=1 / np.maximum(distance[near], 1e-3) ** 2)
    return np.asarray(case.roofline_s(case.shape(asked)) / found)


def _site_coordinates(rows: Rows) -> FloatArray:
    parts = rows["site"].str.split(",", expand=True).to_numpy(np.float64)
    return np.asarray(np.log2(parts + 1))


def _sweep(known: Rows, rows: Rows, columns: list[str]) -> FloatArray:
    """Logarithms of numbers; words far from each other."""
    found = []
    for name in columns:
        if known[name].dtype.kind in "iufb":
            found.append(np.log2(rows[name].to_numpy(np.float64) + 1))
        else:
            order = {word: i for i, word in enumerate(sorted(known[name].unique()))}
            found.append(rows[name].map(order).fillna(-1).to_numpy(np.float64) * _UNLIKE)
    return np.column_stack(found)


def _along_sweep(site: tuple[cKDTree, FloatArray], at: FloatArray) -> FloatArray:
    """By distance between the nearest rows of a site; of a row that is there, its own."""
    tree, share = site
    distance, row = tree.query(at, k=range(1, min(_NEIGHBOUR_ROWS, len(share)) + 1))
    weight = 1 / np.maximum(distance, 1e-6) ** 2
    return np.asarray((share[row] * weight).sum(axis=1) / weight.sum(axis=1))


def has_forest() -> bool:
    """Whether scikit-learn is there."""
    return find_spec("sklearn") is not None


def forest(case: KernelCase, known: Rows, asked: Rows) -> FloatArray:
    """A random forest of the logarithms of all columns and of the roofline's terms."""
    from sklearn.ensemble import RandomForestRegressor

    known = sampled(known, _FOREST_ROWS)
    columns = [c for c in known.columns if c not in ("latency_s", "site")]

    def features(rows: Rows) -> FloatArray:
        return np.column_stack(
            [_sweep(known, rows, columns), np.log(np.maximum(_terms(case, rows).T, _LEAST_S))]
        )

    model: Any = RandomForestRegressor(_N_TREES, random_state=0)
    model.fit(features(known), np.log(_seconds(known)))
    return np.asarray(np.exp(model.predict(features(asked))))


def plain_roofline(case: KernelCase, known: Rows, asked: Rows) -> FloatArray:
    """Peak or bandwidth alone, whichever binds."""
    return case.roofline_s(case.shape(asked))


def baselines() -> dict[str, Baseline]:
    """Every baseline by its name in the table."""
    found: dict[str, Baseline] = {
        "roofline": plain_roofline,
        "fitted roofline": fitted_roofline,
        "interpolation": interpolated,
    }
    return found | ({"forest": forest} if has_forest() else {})
