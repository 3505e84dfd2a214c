"""Trace a model's graphs anew from the reference implementation. Needs the extra `reference` (torch)."""

import argparse
from pathlib import Path

from hardware_specs.records.errors import GateFailedError, InputError, Problem
from reports.cli.flags import add_approximate
from reports.cli.parser import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, where the files go, and a comparison with the shipped ones."""
    parser.add_argument("model", metavar="MODEL", help="canonical key, hub name or path of a config.json")
    add_approximate(parser)
    parser.add_argument(
        "--phase",
        metavar="NAME",
        action="append",
        help="prefill, chunked_prefill, decode, mtp (default: all that the model has)",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="folder to write graph files to (default: nothing is written)",
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with the shipped graphs; 4 when one differs"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Emit, write or compare."""
    require_torch("emit")
    from model_graphs.configs import resolve_model
    from reports.console import console, print_json, progress
    from reports.emitted import compare, emit_phases, emitted_json, emitted_table, write_graphs

    record = resolve_model(args.model, approximate=bool(args.approximate))
    if args.out and not args.out.is_dir():
        raise InputError(Problem("must be a folder that exists", str(args.out), path="--out"))
    with progress("emitting") as tick:
        graphs = emit_phases(record, args.phase, tick)
    written = write_graphs(args.out, graphs) if args.out else []
    differences = compare(record, graphs) if args.check else None
    if args.json:
        print_json(emitted_json(graphs, written, differences))
    else:
        console().print(emitted_table(graphs, written, differences))
    if differences:
        raise GateFailedError("emitted graphs differ from the shipped ones: " + ", ".join(differences))
    return 0


def require_torch(command: str) -> None:
    """Refuse a command that cannot run without torch.

    Raises:
        InputError: torch is not installed.
    """
    from importlib.util import find_spec

    if find_spec("torch") is None:
        requirement = f"{command} needs torch: pip install 'silicast[reference]'"
        raise InputError(Problem(requirement, "an installation without torch"))
