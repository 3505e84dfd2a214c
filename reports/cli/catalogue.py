"""What `systems`, `models` and `stacks` share: the three actions, and checks of a user's own files."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import RenderableType

from hardware_specs.records.errors import InputError, Problem
from reports.cli.parser import add_json
from reports.console import console, print_json

Shown = tuple[Mapping[str, object], Iterable[RenderableType]]


def add_actions(parser: argparse.ArgumentParser, what: str) -> None:
    """`list`, `show NAME` and `check FILE...`."""
    parser.add_argument(
        "action", choices=("list", "show", "check"), help="list all, show one, or check files"
    )
    parser.add_argument("names", nargs="*", metavar="NAME|FILE", help=f"{what} to show, or files to check")
    add_json(parser)


def dispatch(
    args: argparse.Namespace,
    listing: Callable[[], Shown],
    showing: Callable[[str], Shown],
    checking: Callable[[Path], list[str]],
) -> int:
    """Run the action that was asked for; `checking` returns what will be assumed and raises `InputError`."""
    if args.action == "list":
        if args.names:
            raise InputError(Problem(requirement="`list` takes no name", given=" ".join(args.names)))
        return _show(args, [listing()])
    if not args.names:
        kind = "name" if args.action == "show" else "file"
        raise InputError(Problem(requirement=f"`{args.action}` needs at least one {kind}"))
    if args.action == "show":
        return _show(args, [showing(name) for name in args.names])
    return _check(args, checking)


def _show(args: argparse.Namespace, shown: list[Shown]) -> int:
    if args.json:
        contents = [content for content, _ in shown]
        print_json(contents[0] if len(contents) == 1 else {"items": contents})
        return 0
    out = console()
    for _, tables in shown:
        for made in tables:
            out.print(made)
    return 0


def _check(args: argparse.Namespace, checking: Callable[[Path], list[str]]) -> int:
    problems: list[Problem] = []
    passed: dict[str, list[str]] = {}
    for name in args.names:
        try:
            passed[name] = checking(Path(name))
        except InputError as error:
            problems += error.problems
    if args.json:
        print_json({"passed": passed, "problems": [asdict(problem) for problem in problems]})
    else:
        for name, notes in passed.items():
            print(f"{name}: right" + "".join(f"\n  {note}" for note in notes))
    if problems:
        raise InputError(*problems)
    return 0
