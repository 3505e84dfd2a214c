"""Predictions against a file of measured runs: a line for every figure asked, and a table of errors.

A broken row is reported by its number and the rest is answered. With --gate the exit code is 4 when a median
error is above its limit: --gate "tpot_ms<10%,ttft_ms<30%".
"""

import argparse
from pathlib import Path

from reports.cli.flags import output_path
from reports.cli.parser import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The measured file, where the predictions go, and the gate."""
    parser.add_argument(
        "--measured",
        metavar="FILE",
        type=Path,
        required=True,
        help="CSV of measured runs (serving or figures schema)",
    )
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        type=output_path,
        help="CSV to write: id,metric,measured,predicted,low,high,...",
    )
    parser.add_argument(
        "--gate",
        metavar="LIMITS",
        default="",
        help="limits on median errors, such as 'tpot_ms<10%%' (default: none)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Answer every row; 4 when the gate is not met."""
    from reports.console import console, print_json, progress
    from reports.csv_text import csv_text
    from reports.files import write_text
    from reports.gate import check_gate, parse_gate
    from reports.validation_tables import score_table, unanswered_table, validation_json
    from simulator.measured.validation import PREDICTION_COLUMNS, validate_measured

    gate = parse_gate(args.gate)
    with progress("predicting") as tick:
        report = validate_measured(args.measured, tick)
    if args.predictions:
        write_text(args.predictions, csv_text(PREDICTION_COLUMNS, report.predictions))
    if args.json:
        print_json(validation_json(report))
    else:
        out = console()
        out.print(score_table(report))
        out.print(unanswered_table(report))
    check_gate(gate, report.predictions)
    return 0
