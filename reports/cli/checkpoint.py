"""A checkpoint's folder held against its config: `check FOLDER` compares bytes, names, shapes and forms.

Reads `config.json`, the index and the headers of the safetensors shards, no weights. Needs torch.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from reports.cli.parser import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The action and the folder."""
    parser.add_argument("action", choices=("check",), help="hold a checkpoint against its config")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of config.json and safetensors")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what the checkpoint holds; 2 with every problem where it is not right."""
    from reports.cli.emit import require_torch

    require_torch("checkpoint")
    from reference_impl.checkpoints.summary import summarise_checkpoint
    from reports.checkpoint_tables import checkpoint_tables
    from reports.console import console, print_json

    summary = summarise_checkpoint(args.folder)
    if args.json:
        print_json({"schema_version": 1, **asdict(summary)})
        return 0
    out = console()
    for made in checkpoint_tables(args.folder, summary):
        out.print(made)
    return 0
