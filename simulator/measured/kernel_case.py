"""One kernel whose constants are fitted: the device, the table rows, and how its family prices them.

A family of tables says how its rows are read, what shapes its formula takes, and how the benchmark that
measured them is priced: operands warm where it leaves them so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hardware_specs.library import load_system
from simulator.costs.calibration import CONSTANTS_OF_FAMILY
from simulator.costs.estimates import FloatArray
from simulator.costs.figures import DeviceFigures
from simulator.measured.kernel_split import SPLIT_FAMILIES, Part, part_of
from simulator.measured.silicon import EXPECTED_VERSION, read_table

#: columns are the dimensions of a call, `latency_s` and `site`
Rows = pd.DataFrame


@dataclass(frozen=True)
class KernelTable:
    """How one family of tables is read and priced."""

    rows: Callable[["KernelCase"], Rows]
    shape: Callable[["KernelCase", Rows], Any]
    latency_s: Callable[["KernelCase", Any, Any], FloatArray]
    roofline_s: Callable[["KernelCase", Any], FloatArray]


@dataclass(frozen=True)
class KernelCase:
    """One kernel on one device. `releases` are the (framework, release) pairs whose rows are pooled."""

    device_key: str
    family: str
    dtype: str
    kernel: str
    releases: tuple[tuple[str, str], ...]
    table: KernelTable
    kernel_source: str = ""
    form: tuple[tuple[str, str], ...] = ()  # choices of form, as fields of the constants
    sibling: "KernelCase | None" = None  # a device whose constants are the prior, where sites are very few

    @property
    def label(self) -> str:
        """How the case is named in tables of scores."""
        return f"{self.family} {self.dtype} {self.kernel} {self.device_key}"

    @property
    def source(self) -> str:
        """Where the rows come from, for the calibration file."""
        pairs = ", ".join(f"{framework} {release}" for framework, release in self.releases)
        package = f"aiconfigurator-core {EXPECTED_VERSION} (NVIDIA, Apache-2.0)"
        return f"{package}, {pairs} {self.kernel_source}".rstrip()

    @property
    def is_split(self) -> bool:
        """Whether sites are split by hash; otherwise, or where none tests, each is left out in turn."""
        if self.family not in SPLIT_FAMILIES:
            return False
        return any(part_of(self.family, site) is Part.TEST for site in self.rows["site"].unique())

    @property
    def prior_constants(self) -> Any:
        """The family's constants at the medians of their priors, in the form of this case."""
        return CONSTANTS_OF_FAMILY[self.family](**dict(self.form))

    @cached_property
    def device(self) -> DeviceFigures:
        """The datasheet figures that the formula reads."""
        return DeviceFigures.from_system(load_system(self.device_key))

    @cached_property
    def rows(self) -> Rows:
        """The measured rows; repeats of a call are one row with their median."""
        rows = self.table.rows(self)
        keys = [column for column in rows.columns if column != "latency_s"]
        medians = rows[rows["latency_s"] > 0].groupby(keys, sort=True)["latency_s"].median()
        return _several_sites(medians.reset_index())

    def part(self, part: Part) -> Rows:
        """The rows of one part of the split."""
        sites = self.rows["site"]
        parts = sites.map({site: part_of(self.family, site) for site in sites.unique()})
        return self.rows[parts == part]

    @property
    def fit_rows(self) -> Rows:
        """The rows that constants are fitted on: of the `fit` sites, or all where sites are not split."""
        return self.part(Part.FIT) if self.is_split else self.rows

    def shape(self, rows: Rows) -> Any:
        """What the family's formula takes."""
        return self.table.shape(self, rows)

    def latency_s(self, shape: Any, constants: Any) -> FloatArray:
        """Predicted latencies as the benchmark measures them."""
        return self.table.latency_s(self, shape, constants)

    def roofline_s(self, shape: Any) -> FloatArray:
        """The plain roofline of the same calls."""
        return self.table.roofline_s(self, shape)


def _several_sites(rows: Rows) -> Rows:
    """The rows; of one site alone, the values of the column that varies most are sites instead."""
    if rows["site"].nunique() > 1:
        return rows
    varied = [name for name in rows.columns if name not in ("site", "latency_s")]
    widest = max(varied, key=lambda name: rows[name].nunique())
    return rows.assign(site=rows["site"] + "," + rows[widest].astype(str))


def columns_of(rows: Rows, *names: str) -> list[FloatArray]:
    """Columns as arrays of floats."""
    return [rows[name].to_numpy(np.float64) for name in names]


def with_site(rows: Rows, *names: str) -> Rows:
    """The rows with a column `site`: these columns as integers joined by commas."""
    parts = [rows[name].astype(int).astype(str) for name in names]
    site = parts[0]
    for part in parts[1:]:
        site = site + "," + part
    return rows.assign(site=site)


def read_releases(case: KernelCase, folder: str, table: str) -> Rows:
    """The rows of all releases of a case."""
    return pd.concat([read_table(case.device_key, folder, table, *pair) for pair in case.releases])
