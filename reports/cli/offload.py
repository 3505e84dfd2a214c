"""One step of a model that lies partly on one GPU, partly on its host's CPU or drives.

Without a plan: the curve from all layers on the CPU to all of them on the GPU; what does not fit is marked. A
plan is a YAML file or a text such as `layers:0-11=gpu,experts=cpu,rest=cpu`; its parts are embedding, layers,
experts, head and rest, its places cpu, gpu and disk.
"""

import argparse

from reports.cli.flags import field_default, output_path
from reports.cli.parser import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the device, the plan, the step."""
    group = parser.add_argument_group("deployment (one device)")
    group.add_argument(
        "--model", metavar="NAME", required=True, help="canonical key, hub name or path of a config.json"
    )
    group.add_argument("--system", metavar="NAME", required=True, help="canonical key such as h100_sxm")
    for name, text in (
        ("stack", "whose kernels the GPU runs: vllm, sglang, trtllm"),
        ("precision", "of weights: bf16, fp8, fp4"),
        ("kv_dtype", "of the KV cache: bf16, fp8, auto"),
    ):
        default = field_default(name)
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, metavar="NAME", default=default, help=f"{text} (default: {default})")
    parser.add_argument("--placement", metavar="PLAN", help="file or text (default: the curve over layers)")
    group = parser.add_argument_group("step")
    group.add_argument(
        "--phase", metavar="NAME", default="decode", help="prefill, decode, chunked_prefill (default: decode)"
    )
    group.add_argument("--batch", type=int, metavar="N", default=1, help="sequences (default: 1)")
    group.add_argument(
        "--length",
        type=int,
        metavar="N",
        default=4096,
        help="context of a decoding sequence, new tokens of a prompt (default: 4096 tokens)",
    )
    group.add_argument(
        "--past", type=int, metavar="N", default=0, help="cached tokens of a chunked prefill (default: 0)"
    )
    parser.add_argument(
        "--perfetto", metavar="FILE", type=output_path, help="timeline of the plan's step (.json or .json.gz)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Price the plan, or the curve."""
    from hardware_specs.records.errors import InputError, Problem
    from model_graphs.placement import read_plan
    from reports.cli.assemble import deployment_from
    from reports.console import console, print_json
    from reports.offload_tables import curve_table, offload_json, step_tables
    from simulator.planning.offload import Offload
    from simulator.step.perfetto import write_trace

    if args.perfetto and not args.placement:
        raise InputError(Problem("needs a plan: a curve has no timeline", path="--perfetto"))
    one = argparse.Namespace(gpus=1, tp=1, model=args.model, system=args.system, stack=args.stack)
    one.precision, one.kv_dtype = args.precision, args.kv_dtype
    deployment, _ = deployment_from(one)
    offload = Offload(deployment, args.phase, args.batch, args.length, args.past)
    steps = (offload.step(read_plan(args.placement)),) if args.placement else offload.curve()
    if args.perfetto:
        write_trace(steps[0].run, args.perfetto, f"{args.phase} of {args.model}, {steps[0].plan}")
    if args.json:
        print_json(offload_json(offload, args.phase, steps))
        return 0
    out = console()
    for made in step_tables(offload, steps[0]) if args.placement else (curve_table(offload, steps),):
        out.print(made)
    if args.perfetto:
        print(f"wrote {args.perfetto}; open it at ui.perfetto.dev or chrome://tracing")
    return 0
