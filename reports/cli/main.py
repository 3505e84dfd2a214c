"""The `silicast` command: finds the sub-command, imports only that, and turns errors into exit codes.

Each sub-command is a module of this package with `add_arguments(parser)` and `run(args) -> int`; the only
list of them is `COMMANDS`, so that `silicast --help` imports neither numpy nor anything that needs it.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from hardware_specs.records.errors import InputError, Problem, exit_code_of, nearest
from reports.cli.parser import Parser, epilog


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command: the module that holds it and its line in the help."""

    module: str
    summary: str


COMMANDS = {
    "simulate": Command(
        "simulate", "one deployment under one workload: latency, throughput, energy, cost, memory"
    ),
    "step": Command("step", "one prefill or decode step at operator level, with breakdown and timeline"),
    "offload": Command("offload", "one step of a model that lies partly on a GPU, partly on its host"),
    "graph": Command("graph", "parameters, FLOPs, bytes by role and cache groups of a model"),
    "emit": Command("emit", "trace a model's graphs anew from the reference implementation (needs torch)"),
    "generate": Command(
        "generate", "run a reference model: tiers of its KV cache, speculative decoding (needs torch)"
    ),
    "checkpoint": Command("checkpoint", "check a checkpoint's folder: bytes, names, shapes, formats"),
    "measure": Command("measure", "time a reference step on this machine, kernel by kernel (needs torch)"),
    "validate": Command("validate", "predictions against a file of measured runs, with an error table"),
    "kernels": Command("kernels", "latencies for a table of kernel shapes"),
    "calibrate": Command("calibrate", "fit kernel constants to measured kernels of a device"),
    "report": Command("report", "a self-contained HTML report of a scenario"),
    "audit": Command("audit", "verdicts on published claims, each with the run behind it"),
    "accuracy": Command("accuracy", "accuracy of transforms on a proxy; intervals of published accuracies"),
    "systems": Command("systems", "hardware there is: list, show, check"),
    "models": Command("models", "models there are: list, show, check"),
    "stacks": Command("stacks", "serving engines there are: list, show, check"),
    "init": Command("init", "write a commented scenario to start from"),
    "schema": Command("schema", "JSON Schema of a file format, for editors"),
    "doctor": Command("doctor", "versions, where packages come from, what data is found"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of one run: 0 fine, 1 internal, 2 bad input, 3 infeasible, 4 gate failed."""
    try:
        return exit_code_of(lambda: _run(list(sys.argv[1:] if argv is None else argv)))
    except SystemExit as stop:  # argparse leaves this way after --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        print(
            "silicast: internal error; this is a bug, please report it with the lines above", file=sys.stderr
        )
        return 1


def _run(argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        parser = _top_parser()
        parser.parse_args(argv)
        parser.print_help()
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        choices = ", ".join(COMMANDS)
        raise InputError(
            Problem(
                requirement=f"command must be one of {choices}",
                given=name,
                suggestion=nearest(name, COMMANDS),
            )
        )
    command = COMMANDS[name]
    module = import_module(f"reports.cli.{command.module}")
    parser = Parser(prog=f"silicast {name}", description=module.__doc__, epilog=epilog())
    module.add_arguments(parser)
    code = module.run(parser.parse(rest))
    assert isinstance(code, int)
    return code


def _top_parser() -> Parser:
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    parser = Parser(
        prog="silicast",
        usage="silicast COMMAND [flags]",
        description="Forecasts what an LLM deployment does before its hardware is bought.\n\ncommands:\n"
        + "\n".join(lines)
        + "\n\n`silicast COMMAND --help` shows a command's flags with their defaults and units.",
        epilog=epilog(),
    )
    parser.add_argument("--version", action="version", version=f"silicast {_version()}")
    return parser


def _version() -> str:
    from reports.versions import silicast_version

    return silicast_version()
