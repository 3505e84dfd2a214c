"""Fits only some cases of a calibration file, and merges their entries into it.

`python -m simulator.measured.kernel_merge [--device KEY] [--family NAME] [--refit | --residuals]` fits the
cases that have no entry; `--refit` fits the chosen ones anew, `--residuals` only their residuals, with the
constants that are shipped. Entries stay in the order of `all_cases`. A family without transfer widths gets
those of its cases.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

import hardware_specs
from simulator.measured.kernel_calibrate import FittedCase, shipped, transfer_widths
from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_cases import all_cases
from simulator.measured.kernel_file import Document, arrays_of, read_entries, write_entries
from simulator.measured.kernel_releases import DEVICES
from simulator.measured.kernel_score import score_of

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


def merge_device(folder: Path, cases: Sequence[KernelCase], fitted: Iterable[FittedCase]) -> None:
    """Write the file of one device again with the entries of what was fitted."""
    device = cases[0].device
    entries, arrays = read_entries(folder, device.key)
    for item in fitted:
        entry = item.entry()
        score_of(item)
        entries.append(entry)
        arrays |= arrays_of([item])
        print(f"{item.case.label}: {entry['test_mape']:.1%} of {entry['test_sites']} sites", flush=True)
    write_entries(folder, device, merged(cases, entries), arrays)


def merge_transfer(folder: Path) -> None:
    """Give families without transfer widths those of the shipped constants."""
    path = folder / "kernel_transfer.yaml"
    text = path.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    new = (case for case in all_cases() if case.family not in document["families"])
    widths = transfer_widths(_as_shipped(new))
    document["families"] = dict(sorted((document["families"] | widths).items()))
    header = text.splitlines(keepends=True)[0]
    path.write_text(header + yaml.safe_dump(document, sort_keys=False, width=110), encoding="utf-8")


def _as_shipped(cases: Iterable[KernelCase]) -> Iterator[FittedCase]:
    """The cases that have an entry, with its constants."""
    for case in cases:
        try:
            yield FittedCase(case, shipped(case))
        except LookupError:
            continue


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit what is asked for and merge it."""
    parser = argparse.ArgumentParser(description="Fit some kernels of the calibration files.")
    folder = Path(hardware_specs.__path__[0]) / "calibrations"
    parser.add_argument("--out", type=Path, default=folder, help="folder of the calibration files")
    parser.add_argument("--device", choices=DEVICES, action="append", help="only these devices")
    parser.add_argument("--family", action="append", help="only these families")
    parser.add_argument("--refit", action="store_true", help="the chosen entries anew, not only missing ones")
    parser.add_argument("--residuals", action="store_true", help="residuals anew, on the shipped constants")
    options = parser.parse_args(arguments)
    for device in options.device or DEVICES:
        cases = [case for case in all_cases() if case.device_key == device]
        anew = options.refit or options.residuals
        chosen = cases if anew else missing(cases, read_entries(options.out, device)[0])
        chosen = [case for case in chosen if options.family is None or case.family in options.family]
        if chosen:
            merge_device(
                options.out,
                cases,
                (FittedCase(case, shipped(case) if options.residuals else None, True) for case in chosen),
            )
    merge_transfer(options.out)


if __name__ == "__main__":
    main()
