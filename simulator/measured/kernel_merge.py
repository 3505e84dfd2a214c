"""Fits only the cases that a calibration file lacks, and merges their entries into it.

`python -m simulator.measured.kernel_merge [--device KEY] [--family NAME] [--refit]` keeps every entry that is
there, unless `--refit` asks for the chosen ones anew; entries stay in the order of `all_cases`. A family
without transfer widths gets those of its cases.
"""

import argparse
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

import hardware_specs
from simulator.measured.kernel_calibrate import FittedCase, transfer_widths, write_device
from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_cases import all_cases
from simulator.measured.kernel_releases import DEVICES
from simulator.measured.kernel_score import shipped

Document = dict[str, Any]
Key = tuple[str, str, str]


def key_of(entry: Document | KernelCase) -> Key:
    """Family, dtype and kernel of an entry or a case."""
    if isinstance(entry, KernelCase):
        return entry.family, entry.dtype, entry.kernel
    return entry["family"], entry["dtype"], entry["kernel"]


def missing(cases: Iterable[KernelCase], entries: Iterable[Document]) -> list[KernelCase]:
    """The cases that have no entry."""
    known = {key_of(entry) for entry in entries}
    return [case for case in cases if key_of(case) not in known]


def merged(cases: Iterable[KernelCase], entries: Iterable[Document]) -> list[Document]:
    """Entries in the order of the cases, one a key (the last counts); those of no case stay, at the end."""
    by_key = {key_of(entry): entry for entry in entries}
    ordered = [by_key.pop(key_of(case)) for case in cases if key_of(case) in by_key]
    return [*ordered, *by_key.values()]


def merge_device(folder: Path, cases: Sequence[KernelCase], chosen: Sequence[KernelCase]) -> None:
    """Fit the chosen cases of one device and write its file again with their entries."""
    device = cases[0].device_key
    path = folder / f"kernels_{device}.yaml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["entries"] if path.is_file() else []
    fitted = []
    for case in chosen:
        item = FittedCase(case)
        entries.append(item.entry())
        fitted.append(item)
        print(
            f"{case.label}: {entries[-1]['test_mape']:.1%} of {entries[-1]['test_sites']} sites", flush=True
        )
    if not path.is_file():
        write_device(folder, fitted)
    text = path.read_text(encoding="utf-8")
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    document = yaml.safe_load(text)
    document["entries"] = merged(cases, [*document["entries"], *entries])
    path.write_text(header + yaml.safe_dump(document, sort_keys=False, width=110), encoding="utf-8")


class ShippedCase(FittedCase):
    """A case with the constants of its entry, which need no fit."""

    @cached_property
    def constants(self) -> Any:
        """The constants as they are shipped."""
        return shipped(self.case).constants


def merge_transfer(folder: Path) -> None:
    """Give families without transfer widths those of the shipped constants."""
    path = folder / "kernel_transfer.yaml"
    text = path.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    new = [ShippedCase(case) for case in all_cases() if case.family not in document["families"]]
    new = [item for item in new if _has_entry(item.case)]
    document["families"] = dict(sorted((document["families"] | transfer_widths(new)).items()))
    header = text.splitlines(keepends=True)[0]
    path.write_text(header + yaml.safe_dump(document, sort_keys=False, width=110), encoding="utf-8")


def _has_entry(case: KernelCase) -> bool:
    try:
        return bool(shipped(case))
    except LookupError:
        return False


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit what is missing and merge it."""
    parser = argparse.ArgumentParser(description="Fit the kernels that the calibration files lack.")
    shipped = Path(hardware_specs.__path__[0]) / "calibrations"
    parser.add_argument("--out", type=Path, default=shipped, help="folder of the calibration files")
    parser.add_argument("--device", choices=DEVICES, action="append", help="only these devices")
    parser.add_argument("--family", action="append", help="only these families")
    parser.add_argument("--refit", action="store_true", help="the chosen entries anew, not only missing ones")
    options = parser.parse_args(arguments)
    for device in options.device or DEVICES:
        cases = [case for case in all_cases() if case.device_key == device]
        path = options.out / f"kernels_{device}.yaml"
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["entries"] if path.is_file() else []
        chosen = cases if options.refit else missing(cases, entries)
        chosen = [case for case in chosen if options.family is None or case.family in options.family]
        if chosen:
            merge_device(options.out, cases, chosen)
    merge_transfer(options.out)


if __name__ == "__main__":
    main()
