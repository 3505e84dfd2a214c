"""One prefill, decode or encoding step at operator level: where its time goes, what bounds it; a trace."""

import argparse

from reports.cli.flags import add_deployment_flags, output_path
from reports.cli.parser import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Deployment flags, the phase and its sizes, the timeline."""
    parser.add_argument(
        "scenario", nargs="?", metavar="SCENARIO", help="scenario file or example, for its deployment"
    )
    add_deployment_flags(parser)
    group = parser.add_argument_group("step")
    group.add_argument(
        "--phase",
        metavar="NAME",
        default="decode",
        help="prefill, decode, chunked_prefill; encode of an encoder (default: decode)",
    )
    group.add_argument(
        "--batch", type=int, metavar="N", default=16, help="sequences of a replica (default: 16)"
    )
    group.add_argument(
        "--length",
        type=int,
        metavar="N",
        default=4096,
        help="context of a decoding sequence, new tokens of a prompt or text (default: 4096 tokens)",
    )
    group.add_argument(
        "--past",
        type=int,
        metavar="N",
        default=0,
        help="cached tokens of a chunked prefill (default: 0 tokens)",
    )
    parser.add_argument(
        "--explain", action="store_true", help="add what bounds each kind of operator, and evidence"
    )
    parser.add_argument(
        "--perfetto", metavar="FILE", type=output_path, help="trace file to write (.json or .json.gz)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Simulate the step."""
    from reports.cli.assemble import deployment_from
    from reports.console import console, print_json
    from reports.step_tables import step_json, step_tables
    from simulator.step.perfetto import write_trace
    from simulator.step_forecast import forecast_step

    deployment, assumed = deployment_from(args)
    step = forecast_step(deployment, args.phase, args.batch, args.length, args.past)
    if args.perfetto:
        write_trace(step.run, args.perfetto, f"{args.phase} of {deployment.model} on {deployment.system}")
    if args.json:
        print_json(step_json(step, assumed))
        return 0
    out = console()
    for made in step_tables(step, assumed, explain=args.explain):
        out.print(made)
    if args.perfetto:
        print(f"wrote {args.perfetto}; open it at ui.perfetto.dev or chrome://tracing")
    return 0
