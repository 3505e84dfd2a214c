"""Verdicts on published claims, each with the run, bound or citation behind it and the limit that binds."""

import argparse

from reports.cli.parser import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The claims to audit."""
    parser.add_argument(
        "claims", nargs="*", metavar="CLAIM", help="identifiers such as C4 (default: all that ship)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the checks of the claims and print what they found."""
    from dataclasses import asdict

    from reports.audit import run_claims
    from reports.audit_tables import verdict_tables
    from reports.console import console, print_json
    from reports.versions import runtime_versions

    verdicts = run_claims([name.upper() for name in args.claims])
    if args.json:
        print_json(
            {"schema_version": 1, "verdicts": list(map(asdict, verdicts)), "versions": runtime_versions()}
        )
        return 0
    out = console()
    for made in verdict_tables(verdicts):
        out.print(made)
    return 0
