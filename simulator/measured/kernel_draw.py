"""A few measured points as someone with a new device would choose them: spread evenly over magnitudes.

Three of the smallest calls (they show the launch), three of the largest (the tensor rate and the droop), and
the others one in each of as many steps of equal ratio in the latency that is expected beforehand.
"""

import numpy as np
from numpy.typing import NDArray

from simulator.costs.estimates import FloatArray

_ENDS = 3
_END_SHARE = 0.05


def drawn(expected_s: FloatArray, n_points: int, seed: int) -> NDArray[np.intp]:
    """The index of `n_points` calls, fewer than there are, whose expected latencies are given; sorted."""
    rng = np.random.default_rng(seed)
    order = np.argsort(expected_s, kind="stable")
    n_end = max(int(_END_SHARE * len(order)), 1)
    ends = min(_ENDS, n_end, n_points // 4)
    taken = {*rng.choice(order[:n_end], ends, replace=False).tolist()}
    taken |= {*rng.choice(order[-n_end:], ends, replace=False).tolist()}
    edges = np.geomspace(expected_s[order[0]], expected_s[order[-1]], n_points - len(taken) + 1)
    step = np.clip(np.searchsorted(edges, expected_s, side="right") - 1, 0, len(edges) - 2)
    for one in rng.permutation(len(edges) - 1):
        inside = [i for i in np.flatnonzero(step == one).tolist() if i not in taken]
        if inside:
            taken.add(int(rng.choice(inside)))
    left = np.array([i for i in range(len(order)) if i not in taken])
    taken |= {*rng.choice(left, n_points - len(taken), replace=False).tolist()}
    return np.array(sorted(taken))
