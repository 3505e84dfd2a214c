"""The command that fits every kernel anew: `python -m simulator.measured.kernel_fit`.

Reads the public kernel tables (extra `[silicon]`), fits every case on its `fit` sites and writes
`kernels_DEVICE.yaml`, `residuals_DEVICE.npz` and `kernel_transfer.yaml` in `hardware_specs/calibrations`:
several minutes a device on one core. `kernel_merge` fits some kernels only.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import hardware_specs
from simulator.measured.kernel_calibrate import FittedCase
from simulator.measured.kernel_cases import all_cases
from simulator.measured.kernel_file import write_device, write_transfer
from simulator.measured.kernel_releases import DEVICES


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and write; `--out` names another folder."""
    parser = argparse.ArgumentParser(description="Fit the kernel constants on public kernel tables.")
    shipped = Path(hardware_specs.__path__[0]) / "calibrations"
    parser.add_argument("--out", type=Path, default=shipped, help="folder of the calibration files")
    parser.add_argument("--device", choices=DEVICES, help="only this device, without the transfer widths")
    options = parser.parse_args(arguments)
    fitted = [FittedCase(case) for case in all_cases() if options.device in (None, case.device_key)]
    for device in DEVICES:
        if own := [item for item in fitted if item.case.device_key == device]:
            print(write_device(options.out, own))
    if options.device is None:
        print(write_transfer(options.out, fitted))


if __name__ == "__main__":
    main()
