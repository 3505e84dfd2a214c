"""The calibration file of a device, the arrays of its residuals, and transfer widths, as fits write them."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from simulator.costs.calibration import SCHEMA_VERSION
from simulator.costs.figures import DeviceFigures
from simulator.costs.residual import Bumps, BumpsFile, packed
from simulator.measured.calibrate_device import figures_as_written
from simulator.measured.kernel_calibrate import FittedCase, transfer_widths

Document = dict[str, Any]

#: what the fitter does not fit, because no public table measures it
_BANDWIDTH_ENTRY: Document = {
    "family": "bandwidth",
    "dtype": "any",
    "kernel": "elementwise",
    "source": "1 us a small kernel and 0.75 of the bandwidth: the values behind this project's serving fits",
    "kind": "assumed",
    "n_points": 0,
    "n_sites": 0,
    "log_half_width": 0.35,
    "constants": {"launch_s": "1 us", "bandwidth_efficiency": 0.75},
}


def label_of(entry: Document) -> str:
    """How the arrays of an entry are called."""
    return f"{entry['family']} {entry['dtype']} {entry['kernel']}"


def read_entries(folder: Path, device: str) -> tuple[list[Document], dict[str, Bumps]]:
    """The entries of a device's file as written, and the arrays of their residuals; none without a file."""
    path = folder / f"kernels_{device}.yaml"
    if not path.is_file():
        return [_BANDWIDTH_ENTRY], {}
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries = document["entries"]
    if "residuals_sha256" not in document:
        return entries, {}
    arrays = BumpsFile(folder / f"residuals_{device}.npz", document["residuals_sha256"])
    corrected = [label_of(entry) for entry in entries if "residual" in entry]
    return entries, {label: arrays.get(label) for label in corrected}


def write_entries(
    folder: Path, device: DeviceFigures, entries: Iterable[Document], bumps: Mapping[str, Bumps]
) -> Path:
    """Write the calibration file of a device with the arrays of its residuals and return its path."""
    entries = list(entries)
    document: Document = {
        "schema_version": SCHEMA_VERSION,
        "device": device.key,
        "architecture": device.architecture,
        "figures": figures_as_written(device),
    }
    corrected = [label_of(entry) for entry in entries if "residual" in entry]
    arrays = folder / f"residuals_{device.key}.npz"
    if corrected:
        content = packed({label: bumps[label] for label in corrected})
        arrays.write_bytes(content)
        document["residuals_sha256"] = sha256(content).hexdigest()
    else:
        arrays.unlink(missing_ok=True)
    document["entries"] = entries
    path = folder / f"kernels_{device.key}.yaml"
    header = (
        f"# Kernel constants of {device.key}, written by `python -m simulator.measured.kernel_fit`.\n"
        f"# figures: what the fit read from devices/{device.key}.yaml and its parts, with their sources.\n"
        "# errors: mean absolute, as fractions; log_half_width: of the 90% interval, conformal by site.\n"
        f"# residual: see simulator/costs/residual.py; its arrays are in residuals_{device.key}.npz.\n"
    )
    path.write_text(header + yaml.safe_dump(document, sort_keys=False, width=110), encoding="utf-8")
    return path


def arrays_of(fitted: Iterable[FittedCase]) -> dict[str, Bumps]:
    """The arrays of the residuals of cases, by label."""
    return {item.label: item.residual.bumps for item in fitted if item.residual}


def write_device(folder: Path, fitted: Iterable[FittedCase]) -> Path:
    """Write the calibration file of one device anew and return its path."""
    cases = list(fitted)
    entries = [*(item.entry() for item in cases), _BANDWIDTH_ENTRY]
    return write_entries(folder, cases[0].case.device, entries, arrays_of(cases))


def write_transfer(folder: Path, fitted: Iterable[FittedCase]) -> Path:
    """Write the transfer widths of every family and return their path."""
    widths = transfer_widths(fitted) | {
        "bandwidth": {"within_architecture": 0.4, "across_architectures": 0.5}
    }
    document = {
        "schema_version": SCHEMA_VERSION,
        "source": "one device's constants on another's rows, aiconfigurator-core 0.12.0 (bandwidth: assumed)",
        "kind": "fitted",
        "families": widths,
    }
    path = folder / "kernel_transfer.yaml"
    header = "# Half-widths in log space of constants carried to another device; written by kernel_fit.\n"
    path.write_text(header + yaml.safe_dump(document, sort_keys=False, width=110), encoding="utf-8")
    return path
