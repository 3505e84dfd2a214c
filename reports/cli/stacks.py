"""Serving engines there are: `list`, `show NAME[@VERSION]` with rules and constants, `check FILE`."""

import argparse
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.yaml_reader import validate_file
from reports.cli.catalogue import Shown, add_actions, dispatch
from reports.figures import figure_json, figure_table
from reports.tables import definition, table
from simulator.stacks.library import list_stacks, load_stack
from simulator.stacks.model import StackFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three actions."""
    add_actions(parser, "stacks")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    return dispatch(args, _listing, _showing, _checking)


def _listing() -> Shown:
    stacks = list_stacks()
    rows = [(stack.backend, v.version, str(v.released), v.rules) for stack in stacks for v in stack.versions]
    content = {
        stack.backend: {"name": stack.name, "versions": [release.version for release in stack.versions]}
        for stack in stacks
    }
    return {"stacks": content}, [table("Stacks", ("stack", "version", "released", "rules"), rows)]


def _showing(name: str) -> Shown:
    backend, _, version = name.partition("@")
    stack = load_stack(backend, version)
    release = stack.release
    content: dict[str, object] = {
        "backend": backend,
        "version": release.version,
        "released": str(release.released),
        "rules": release.rules,
        "reason": stack.reason,
        "grade": stack.grade.value,
        "content_hash": stack.content_hash,
    }
    head = definition(name, [(key.replace("_", " "), str(value)) for key, value in content.items()])
    return content | {"figures": figure_json(stack)}, [head, figure_table(stack)]


def _checking(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(Problem(requirement="file must exist", given=str(path)))
    stack = validate_file(StackFile, path)
    return [f"{stack.name} with {len(stack.versions)} versions; nothing is assumed"]
