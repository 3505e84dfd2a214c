"""Write a commented scenario to start from. Without a file name it goes to standard output."""

import argparse
import sys
from importlib.resources import files

from hardware_specs.records.errors import InputError, Problem
from reports.cli.flags import output_path
from reports.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file to write, and leave to replace one."""
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        type=output_path,
        help="scenario file to write (default: standard output)",
    )
    parser.add_argument("--force", action="store_true", help="replace a file that exists")


def run(args: argparse.Namespace) -> int:
    """Write the template."""
    text = template()
    if args.file is None:
        sys.stdout.write(text)
        return 0
    if args.file.exists() and not args.force:
        raise InputError(
            Problem(requirement="must not exist yet, unless --force is given", given=str(args.file))
        )
    write_text(args.file, text)
    print(f"wrote {args.file}; next: silicast simulate {args.file}")
    return 0


def template() -> str:
    """The commented scenario."""
    return (files("reports") / "templates" / "scenario.yaml").read_text(encoding="utf-8")
