"""Latencies in microseconds for a table of kernel shapes, each with interval, grade and what bounds it.

The file has the columns id, family, dtype and the dimensions of the family; latency_us where it was measured.
message_bytes of a collective is the size that nccl-tests prints.
"""

import argparse
from pathlib import Path

from reports.cli.flags import add_calibration, output_path
from reports.cli.parser import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, the system, and whose kernels."""
    parser.add_argument("--shapes", metavar="FILE", type=Path, required=True, help="CSV of shapes")
    parser.add_argument("--system", metavar="NAME", required=True, help="canonical key such as h200_sxm")
    parser.add_argument(
        "--stack",
        metavar="NAME",
        default="trtllm",
        help="whose kernels where kernel_source is silent (default: trtllm)",
    )
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        type=output_path,
        help="CSV to write (default: a table on standard output)",
    )
    add_calibration(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Price the shapes."""
    from dataclasses import asdict

    from hardware_specs.library import load_system
    from reports.console import console, print_json
    from reports.csv_text import csv_text
    from reports.files import write_text
    from reports.kernel_table import COLUMNS, price_shapes
    from reports.kernel_tables import answer_table, score_line
    from simulator.costs.calibration import calibrations_with

    calibrations = calibrations_with(args.calibration or "", args.system)
    answers = price_shapes(args.shapes, load_system(args.system), args.stack, calibrations)
    if args.predictions:
        write_text(args.predictions, csv_text(COLUMNS, answers))
    if args.json:
        print_json({"system": args.system, "predictions": [asdict(answer) for answer in answers]})
        return 0
    if not args.predictions:
        console().print(answer_table(answers))
    print(score_line(answers))
    return 0
