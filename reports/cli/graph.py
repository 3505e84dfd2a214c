"""What the work of a model is: parameters, FLOPs, bytes by role and cache groups, closed and at a point.

No device or layout takes part; a transform (reduced precision, pruned weights) changes bytes, element types
and operators. Symbols: B sequences, S new and T past tokens of each sequence.
"""

import argparse
from typing import TYPE_CHECKING

from reports.cli.flags import add_approximate
from reports.cli.parser import add_json

if TYPE_CHECKING:
    from model_graphs.transforms import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the phase, the point."""
    parser.add_argument("model", metavar="MODEL", help="canonical key, hub name or path of a config.json")
    add_approximate(parser)
    phases = "prefill, chunked_prefill, decode or mtp, of an encoder encode"
    parser.add_argument("--phase", metavar="NAME", help=f"{phases} (default: prefill or encode)")
    parser.add_argument(
        "--kv-dtype", metavar="DTYPE", default="bf16", help="of the KV cache: bf16 or fp8 (default: bf16)"
    )
    transform = parser.add_mutually_exclusive_group()
    transform.add_argument(
        "--transform",
        metavar="PLAN",
        help="fp8, int8, int4, 2of4, fp8_int8, ... or the path of a YAML plan (default: none)",
    )
    transform.add_argument(
        "--sparsity-threshold",
        type=float,
        metavar="F",
        help="fraction of each inner weight matrix pruned by magnitude, such as 0.7 (default: none)",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="B, sequences (default: 1)")
    parser.add_argument(
        "--new",
        type=int,
        metavar="N",
        help="S, new tokens a sequence (default: 4096 in prefill, 1 in decode)",
    )
    parser.add_argument(
        "--past",
        type=int,
        metavar="N",
        help="T, past tokens a sequence (default: 0 in prefill, 4095 in decode)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Summarise the graph."""
    from model_graphs.configs import resolve_model
    from model_graphs.graph_io import phases_of
    from model_graphs.totals import graph_summary
    from reports.console import console, print_json
    from reports.graph_cache import ensure_emitted
    from reports.graph_tables import graph_tables
    from reports.versions import runtime_versions

    given = {"B": args.batch, "S": args.new, "T": args.past}
    point = {symbol: count for symbol, count in given.items() if count is not None}
    record = resolve_model(args.model, approximate=bool(args.approximate))
    ensure_emitted(record)
    phase = args.phase or phases_of(record.blueprint)[0]
    summary = graph_summary(record, phase, args.kv_dtype, point, _transform(args))
    if args.json:
        identity = {"content_hash": summary.record.content_hash, "versions": runtime_versions()}
        print_json({"schema_version": 1, **summary.as_dict(), **identity})
        return 0
    out = console()
    for made in graph_tables(summary):
        out.print(made)
    return 0


def _transform(args: argparse.Namespace) -> "Plan | None":
    """The plan that the flags mean."""
    from model_graphs.transforms import pruned_plan, resolve_plan

    if args.sparsity_threshold is not None:
        return pruned_plan(args.sparsity_threshold)
    return None if args.transform is None else resolve_plan(args.transform)
