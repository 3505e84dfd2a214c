"""Accuracy of transforms on a proxy, and what a difference between two published accuracies can show.

`proportion FIRST [SECOND] --n N` gives the interval of an accuracy seen on N questions, and of the
difference of two. `train --seed N --out FILE` trains the proxy (on two x86 cores 201 CPU-seconds with one
thread; 133 s of wall clock, 255 CPU-seconds with --threads 2; needs torch), with --mtp its multi-token
prediction module too (40 CPU-seconds more). `study` trains proxies of three seeds, or reads them with
--checkpoints, and compares every transform with full precision. `acceptance` measures on them how often
speculative drafts are accepted, of a trained module and of a separate draft model (about five CPU-minutes a
seed beside the proxies). `show` prints the study that ships, `show --of acceptance` the other. What they
say is a proxy, not DeepSeek-V3.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hardware_specs.records.errors import GateFailedError, InputError, Problem
from reports.cli.flags import output_path
from reports.cli.parser import add_json

ACTIONS = ("proportion", "train", "study", "acceptance", "show")
STUDIES = ("study", "acceptance")


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
        "--mtp", action="store_true", help="train: the multi-token prediction module too, on the frozen proxy"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", default=3, help="studies: proxies, of seeds 0 to N - 1 (default: 3)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", default=1, help="train, studies: processor threads (default: 1)"
    )
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="FOLDER",
        help="studies: trained proxies to read (default: train them)",
    )
    parser.add_argument(
        "--of", choices=STUDIES, default="study", help="show: which study (default: study, of transforms)"
    )
    _add_outputs(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=output_path, metavar="FILE", help="train: safetensors file; studies: JSON file to write"
    )
    parser.add_argument(
        "--page", type=output_path, metavar="FILE", help="studies, show: markdown page to write"
    )
    parser.add_argument("--html", type=output_path, metavar="FILE", help="studies, show: HTML page to write")
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
    shown = args.of if args.action == "show" else args.action
    return _acceptance(args) if shown == "acceptance" else _study(args)


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
    from dataclasses import replace

    from reference_impl.proxy.checkpoint import checkpoint_bytes
    from reference_impl.proxy.corpus import standard_library
    from reference_impl.proxy.drafters import train_mtp
    from reference_impl.proxy.training import train
    from reports.console import print_json, progress
    from reports.files import write_bytes

    corpus = standard_library()
    with progress("training") as tick:
        trained = train(corpus, args.seed, tell=tick)
    if args.mtp:
        with progress("training the module") as tick:
            model, loss = train_mtp(trained.model, corpus, args.seed, tell=tick)
        trained = replace(trained, model=model, mtp_loss=loss)
    write_bytes(args.out, checkpoint_bytes(trained))
    if args.json:
        print_json({"schema_version": 1, "file": str(args.out), **trained.identity})
    else:
        print(f"wrote {args.out} (seed {args.seed}, training loss {trained.training_loss:.3f} nats a byte)")
    return 0


def _study(args: argparse.Namespace) -> int:
    from reports.accuracy_study import committed_study, orderings, run_study
    from reports.accuracy_study_page import markdown
    from reports.proportion_tables import study_tables

    result = committed_study() if args.action == "show" else _made(args, run_study)
    _tell(args, result, "silicast accuracy study", (markdown, _study_html, study_tables))
    broken = [f"{worse} costs less than {better}" for better, worse, holds in orderings(result) if not holds]
    if broken:
        raise GateFailedError("the study's order is not that of bits and zeros: " + "; ".join(broken))
    return 0


def _acceptance(args: argparse.Namespace) -> int:
    from reports.acceptance_page import markdown
    from reports.acceptance_study import committed_acceptance, run_acceptance
    from reports.acceptance_tables import acceptance_tables

    result = committed_acceptance() if args.action == "show" else _made(args, run_acceptance)
    _tell(args, result, "silicast accuracy acceptance", (markdown, _acceptance_html, acceptance_tables))
    return 0


def _study_html(result: Any) -> str:
    from reports.html.accuracy_study import render_study

    return render_study(result)


def _acceptance_html(result: Any) -> str:
    from reports.html.acceptance_study import render_acceptance

    return render_acceptance(result)


def _made(args: argparse.Namespace, study: Callable[..., Any]) -> Any:
    _use_threads(args.threads)
    from reports.console import progress

    if args.seeds < 2:
        raise InputError(Problem("must be at least 2, for error bars", str(args.seeds), path="--seeds"))
    with progress("training") as tick:
        return study(range(args.seeds), args.checkpoints, tick)


def _tell(args: argparse.Namespace, result: Any, command: str, forms: tuple[Callable[..., Any], ...]) -> None:
    """The files that were asked for, and the result in JSON or in tables; forms are page, HTML and tables."""
    from datetime import date

    from reports.console import console, json_text, print_json
    from reports.files import write_text
    from reports.versions import reference_versions

    markdown, html, tables = forms
    if args.action != "show" and args.out:
        write_text(args.out, json_text(result) + "\n")
    if args.page:
        day = args.date or date.today().isoformat()
        write_text(args.page, markdown(result, command, day, reference_versions()))
    if args.html:
        write_text(args.html, html(result))
    if args.json:
        print_json(result)
        return
    out = console()
    for made in tables(result):
        out.print(made)


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
