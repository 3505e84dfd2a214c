"""Fit kernel constants to measured kernels of a device, from about 30 points a family; writes YAML.

The file is a CSV with the columns of `silicast kernels` and latency_us, a trace of `silicast measure` (needs
torch), a trace of PyTorch's profiler with shapes, or the name of the package aiconfigurator-core. What the
points do not show comes from the other devices' constants. Use the result with --calibration.
"""

import argparse

from reports.cli.flags import output_path
from reports.cli.parser import add_json

FORMATS = ("csv", "measure", "kineto", "aiconfigurator-core")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What was measured where, what is fitted, where it goes."""
    parser.add_argument(
        "--measured", metavar="FILE", required=True, help="measured kernels, or aiconfigurator-core"
    )
    parser.add_argument("--system", metavar="NAME", required=True, help="canonical key such as h200_sxm")
    parser.add_argument(
        "--out", metavar="FILE", type=output_path, required=True, help="calibration file to write (YAML)"
    )
    parser.add_argument(
        "--stack",
        metavar="NAME",
        default="trtllm",
        help="whose kernels where kernel_source is silent (default: trtllm)",
    )
    parser.add_argument(
        "--families",
        metavar="NAME",
        nargs="+",
        default=(),
        help="fit only these kernel families (default: all of the file)",
    )
    parser.add_argument(
        "--format", metavar="NAME", choices=FORMATS, help=f"{', '.join(FORMATS)} (default: by content)"
    )
    parser.add_argument(
        "--warm",
        action="store_true",
        help="the benchmark of a CSV left operands in cache (default: cold, as while serving)",
    )
    parser.add_argument(
        "--measured-on",
        metavar="DATE",
        default="",
        help="YYYY-MM-DD, noted in the file (default: none, so that the same points give the same bytes)",
    )
    parser.add_argument(
        "--points", metavar="N", type=int, help="fit N points of each kernel and show the error on the rest"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of --points (default: 0)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read, fit, write, print."""
    from reports.calibration import calibrate
    from reports.calibration_tables import calibration_json, calibration_table
    from reports.console import console, print_json, progress
    from reports.files import write_text

    with progress("fitting") as tick:
        done = calibrate(args, tick)
    write_text(args.out, done.text)
    if args.json:
        print_json(calibration_json(done))
        return 0
    console().print(calibration_table(done))
    for note in done.notes:
        print(note)
    print(f"wrote {args.out}; use it with --calibration {args.out}")
    return 0
