"""Accuracy of transforms on a proxy, and what a difference between two published accuracies can show.

`proportion FIRST [SECOND] --n N` gives the interval of an accuracy seen on N questions, and of the difference
of two. `train --seed N --out FILE` trains the proxy (about four minutes of a core; needs torch). `study`
trains proxies of three seeds, or reads them with --checkpoints, and compares every transform with full
precision; `show` prints the study that ships. What the study says is a proxy, not DeepSeek-V3 accuracy.
"""

import argparse
from pathlib import Path
from typing import Any

from hardware_specs.records.errors import GateFailedError, InputError, Problem
from reports.cli.flags import output_path
from reports.cli.parser import add_json

ACTIONS = ("proportion", "train", "study", "show")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The action and what each of them needs."""
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument(
        "fractions", nargs="*", type=float, metavar="FRACTION", help="proportion: accuracies such as 0.892"
    )
    parser.add_argument("--n", type=int, metavar="N", help="proportion: questions that each was asked")
    parser.add_argument(
        "--confidence",
        type=float,
        metavar="C",
        default=0.95,
        help="proportion: of the interval (default: 0.95)",
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="train: of the proxy (default: 0)")
    parser.add_argument(
        "--seeds", type=int, metavar="N", default=3, help="study: proxies, of seeds 0 to N - 1 (default: 3)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", default=1, help="train, study: processor threads (default: 1)"
    )
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="FOLDER",
        help="study: trained proxies to read (default: train them)",
    )
    parser.add_argument(
        "--out", type=output_path, metavar="FILE", help="train: safetensors file; study: JSON file to write"
    )
    parser.add_argument(
        "--page", type=output_path, metavar="FILE", help="study, show: markdown page to write"
    )
    parser.add_argument("--html", type=output_path, metavar="FILE", help="study, show: HTML page to write")
    parser.add_argument("--date", metavar="DATE", help="of the page, YYYY-MM-DD (default: today)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    if args.action == "proportion":
        return _proportion(args)
    if args.fractions:
        raise InputError(Problem(f"`{args.action}` takes no fraction", f"{args.fractions[0]:g}"))
    if args.action == "train":
        return _train(args)
    return _study(args)


def _proportion(args: argparse.Namespace) -> int:
    from reports.console import console, print_json
    from reports.proportion_tables import proportion_json, proportion_tables

    if not 1 <= len(args.fractions) <= 2:
        raise InputError(Problem("`proportion` takes one or two fractions", str(len(args.fractions))))
    if args.n is None:
        raise InputError(Problem("`proportion` needs --n, the number of questions"))
    if args.json:
        print_json(proportion_json(args.fractions, args.n, args.confidence))
        return 0
    out = console()
    for made in proportion_tables(args.fractions, args.n, args.confidence):
        out.print(made)
    return 0


def _train(args: argparse.Namespace) -> int:
    if args.out is None:
        raise InputError(Problem("`train` needs --out, a safetensors file to write"))
    _use_threads(args.threads)
    from reference_impl.proxy.checkpoint import checkpoint_bytes
    from reference_impl.proxy.corpus import standard_library
    from reference_impl.proxy.training import train
    from reports.console import print_json, progress
    from reports.files import write_bytes

    with progress("training") as tick:
        trained = train(standard_library(), args.seed, tell=tick)
    write_bytes(args.out, checkpoint_bytes(trained))
    if args.json:
        print_json({"schema_version": 1, "file": str(args.out), **trained.identity})
    else:
        print(f"wrote {args.out} (seed {args.seed}, training loss {trained.training_loss:.3f} nats a byte)")
    return 0


def _study(args: argparse.Namespace) -> int:
    from reports.accuracy_study import committed_study, orderings
    from reports.console import console, print_json
    from reports.proportion_tables import study_tables

    result = committed_study() if args.action == "show" else _made(args)
    _write(args, result)
    if args.json:
        print_json(result)
    else:
        out = console()
        for made in study_tables(result):
            out.print(made)
    broken = [f"{worse} costs less than {better}" for better, worse, holds in orderings(result) if not holds]
    if broken:
        raise GateFailedError("the study's order is not that of bits and zeros: " + "; ".join(broken))
    return 0


def _made(args: argparse.Namespace) -> Any:
    _use_threads(args.threads)
    from reports.accuracy_study import run_study
    from reports.console import progress

    if args.seeds < 2:
        raise InputError(Problem("must be at least 2, for error bars", str(args.seeds), path="--seeds"))
    with progress("training") as tick:
        return run_study(range(args.seeds), args.checkpoints, tick)


def _write(args: argparse.Namespace, result: Any) -> None:
    """The files that were asked for."""
    from datetime import date

    from reports.accuracy_study_page import markdown
    from reports.console import json_text
    from reports.files import write_text
    from reports.versions import reference_versions

    if args.action == "study" and args.out:
        write_text(args.out, json_text(result) + "\n")
    if args.page:
        day = args.date or date.today().isoformat()
        write_text(args.page, markdown(result, "silicast accuracy study", day, reference_versions()))
    if args.html:
        from reports.html.accuracy_study import render_study

        write_text(args.html, render_study(result))


def _use_threads(count: int) -> None:
    """Let torch run on so many threads, or say that it is missing."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        requirement = "needs torch: pip install 'silicast[reference]' (`proportion` and `show` need none)"
        raise InputError(Problem(requirement, "an installation without torch"))
    if count < 1:
        raise InputError(Problem("must be at least 1", str(count), path="--threads"))
    from reference_impl.proxy.threads import use_threads

    use_threads(count)
