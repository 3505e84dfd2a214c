"""Time one step of a reference model on this machine, kernel by kernel, and write it as a measured trace.

Weights are random. `--width narrow` keeps a model's operators at a size that takes milliseconds; `--width
full` is the published width, with as many layers as memory holds. Needs the extra `reference` (torch); the
energy of a CUDA device needs the extra `measure`.
"""

import argparse
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hardware_specs.records.errors import InputError, Problem
from reports.cli.flags import field_default, output_path
from reports.cli.parser import add_json

if TYPE_CHECKING:
    from model_graphs.runs.measurement import MeasuredStep
    from reference_impl.measurement.request import MeasurementRequest
    from reports.measurement_comparison import KindComparison

#: entry of a request -> the flag that sets it, where the two differ
_FLAG_OF = {"n_layers": "--layers", "n_threads": "--threads", "cold_caches": "--cold"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, how, and where the trace goes."""
    _add_subject(parser.add_argument_group("step"))
    _add_protocol(parser.add_argument_group("measurement"))
    _add_placement(parser.add_argument_group("placement"))
    parser.add_argument(
        "--out", metavar="FILE", type=output_path, required=True, help="measured trace to write (JSON)"
    )
    parser.add_argument(
        "--perfetto", metavar="FILE", type=output_path, help="timeline to write (.json or .json.gz)"
    )
    parser.add_argument(
        "--validate",
        metavar="SYSTEM",
        help="compare the kernels with the prices of the system that this machine is (cuda and bf16 only)",
    )
    add_json(parser)


def _add_subject(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        metavar="NAME",
        default="deepseek-v3",
        help="canonical key, hub name or path of a config.json (default: deepseek-v3)",
    )
    group.add_argument("--width", metavar="NAME", default="narrow", help="narrow or full (default: narrow)")
    group.add_argument(
        "--layers",
        type=int,
        metavar="N",
        help="layers of the model (default: 4 of the narrow width, all of the full one)",
    )
    group.add_argument(
        "--phase", metavar="NAME", default="decode", help="prefill, chunked_prefill, decode (default: decode)"
    )
    group.add_argument("--batch", type=int, metavar="N", default=1, help="sequences (default: 1)")
    group.add_argument(
        "--new-tokens",
        type=int,
        metavar="N",
        help="new tokens a sequence (default: 1 in decode, 128 in a prefill)",
    )
    group.add_argument(
        "--past-tokens",
        type=int,
        metavar="N",
        help="cached tokens a sequence (default: 0 in prefill, else 512)",
    )
    group.add_argument("--dtype", metavar="DTYPE", default="fp32", help="fp32, bf16 or fp16 (default: fp32)")
    group.add_argument(
        "--seed", type=int, metavar="N", default=0, help="of weights, ids and caches (default: 0)"
    )


def _add_placement(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--placement", metavar="PLAN", help="file or text of a plan (see offload); `gpu` is the --device"
    )
    group.add_argument(
        "--map",
        metavar="A=B",
        action="append",
        default=[],
        help="run what lies in place A on the device of place B, such as gpu=cpu",
    )


def _add_protocol(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", metavar="NAME", default="cpu", help="cpu or cuda (default: cpu)")
    group.add_argument("--repeats", type=int, metavar="N", default=5, help="readings (default: 5)")
    group.add_argument("--warm-up", type=int, metavar="N", default=2, help="steps before (default: 2)")
    caches = group.add_mutually_exclusive_group()
    caches.add_argument("--cold", action="store_true", help="sweep the last-level cache before every reading")
    caches.add_argument("--warm", action="store_true", help="leave the caches as they are (the default)")
    group.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: PyTorch's choice)")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print."""
    if find_spec("torch") is None:
        requirement = "measure needs torch: pip install 'silicast[reference]'"
        raise InputError(Problem(requirement, "an installation without torch"))
    from model_graphs.runs.trace_io import trace_to_json
    from reports.console import console, print_json
    from reports.files import write_text
    from reports.measurement_comparison import comparison_table
    from reports.measurement_tables import measurement_json, measurement_tables
    from simulator.step.perfetto import write_trace

    try:
        step, kinds = _measured(args)
    except InputError as error:
        raise InputError(*map(_at_flag, error.problems)) from error
    write_text(args.out, trace_to_json(step))
    if args.perfetto:
        write_trace(step.run, args.perfetto, f"{step.subject.phase} of {step.subject.model}, measured")
    if args.json:
        print_json(measurement_json(step) | {"comparison": [asdict(one) for one in kinds]})
        return 0
    out = console()
    for made in measurement_tables(step):
        out.print(made)
    if kinds:
        out.print(comparison_table(args.validate, kinds))
    print(f"wrote {args.out}" + (f" and {args.perfetto}" if args.perfetto else ""))
    return 0


def _measured(args: argparse.Namespace) -> "tuple[MeasuredStep, tuple[KindComparison, ...]]":
    """The step, and its comparison where one is asked for."""
    from reference_impl.measurement.steps import measure_step
    from reports.console import progress
    from reports.measurement_comparison import check_comparable, compare_with_system, measured_graph

    request = _request(args)
    if args.validate:
        check_comparable(request.device, request.dtype)
    with progress("measuring") as tick:
        step = measure_step(request, tick)
    if not args.validate:
        return step, ()
    return step, compare_with_system(step, measured_graph(request), args.validate, field_default("stack"))


def _request(args: argparse.Namespace) -> "MeasurementRequest":
    from model_graphs.placement import read_mapping, read_plan
    from reference_impl.measurement.request import MeasurementRequest

    new_tokens = 1 if args.phase == "decode" else 128
    past_tokens = 0 if args.phase == "prefill" else 512
    return MeasurementRequest(
        model=args.model,
        device=args.device,
        width=args.width,
        n_layers=args.layers,
        phase=args.phase,
        batch=args.batch,
        new_tokens=new_tokens if args.new_tokens is None else args.new_tokens,
        past_tokens=past_tokens if args.past_tokens is None else args.past_tokens,
        dtype=args.dtype,
        repeats=args.repeats,
        warm_up=args.warm_up,
        cold_caches=args.cold,
        n_threads=args.threads,
        seed=args.seed,
        placement=read_plan(args.placement) if args.placement else None,
        mapped=read_mapping(args.map),
    )


def _at_flag(problem: Problem) -> Problem:
    """The problem placed at the flag that carries the entry."""
    return replace(problem, path=_FLAG_OF.get(problem.path, "--" + problem.path.replace("_", "-")))
