"""A few of many calls, as someone with a new device would choose them before measuring any.

The calls, in the order of the latency that is expected beforehand, are cut into as many groups of equal size
as points are wanted; one of each is taken, from the site that has been taken least so far. Chosen on `choose`
sites of Hopper and Blackwell: after 30 points GEMMs are a point of error better than by steps of equal ratio
in the latency with the ends filled first, and points that are most informative on the prior are no better.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.costs.estimates import FloatArray


def drawn(expected_s: FloatArray, sites: Sequence[str], n_points: int, seed: int) -> NDArray[np.intp]:
    """The index of `n_points` calls, fewer than there are, whose expected latencies are given; sorted."""
    rng = np.random.default_rng(seed)
    groups = np.array_split(np.argsort(expected_s, kind="stable"), n_points)
    times_taken: Counter[str] = Counter()
    taken = []
    for place in rng.permutation(n_points).tolist():
        group = rng.permutation(groups[place]).tolist()
        one = min(group, key=lambda i: times_taken[sites[i]])
        times_taken[sites[one]] += 1
        taken.append(one)
    return np.array(sorted(taken))
