"""Rows of the public kernel tables of one system as groups of points (extra `[silicon]`)."""

from typing import Any

import numpy as np

from hardware_specs.records.errors import InputError, Problem
from simulator.costs.estimates import FloatArray
from simulator.measured.kernel_case import KernelCase, Rows
from simulator.measured.kernel_cases import all_cases
from simulator.measured.kernel_map import fixed_constants, sampled
from simulator.measured.kernel_releases import DEVICES
from simulator.measured.point_groups import Index, PointGroup

MAX_POINTS = 1200


def table_points(device: str, families: frozenset[str] = frozenset()) -> tuple[PointGroup, ...]:
    """The `fit` rows of every kernel of a device, or of some families; at most 1,200 a kernel.

    Raises:
        InputError: the package is absent or has no tables of the device.
    """
    if device not in DEVICES:
        raise InputError(
            Problem(f"the package must have tables of the system ({', '.join(DEVICES)})", device)
        )
    cases = [case for case in all_cases() if case.device_key == device]
    chosen = [case for case in cases if not families or case.family in families]
    return tuple(case_group(case, sampled(case.fit_rows, MAX_POINTS)) for case in chosen)


def case_group(case: KernelCase, rows: Rows) -> PointGroup:
    """Rows of a case as a group; they are priced as their benchmark measures them."""
    shapes: dict[bytes, Any] = {}  # a fit asks for the same rows hundreds of times

    def predict(constants: Any, index: Index) -> FloatArray:
        key = index.tobytes()
        if key not in shapes:
            shapes[key] = case.shape(rows.iloc[index])
        return case.latency_s(shapes[key], constants)

    return PointGroup(
        case.family,
        case.dtype,
        case.kernel,
        (case.kernel,),
        rows["latency_s"].to_numpy(np.float64),
        tuple(rows["site"]),
        predict,
        fixed_constants(case),
        case.form,
    )
