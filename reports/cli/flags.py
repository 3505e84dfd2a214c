"""The flags that describe a scenario, the same in every command; `reports.cli.assemble` joins them."""

import argparse
from pathlib import Path
from typing import Any

from hardware_specs.records.errors import InputError
from simulator.scenario.model import Deployment, Objectives

#: workload flags where no scenario file is given: name -> (default, unit as the help shows it)
WORKLOAD_DEFAULTS: dict[str, tuple[int, str]] = {
    "isl": (1024, "tokens"),
    "osl": (1024, "tokens"),
    "concurrency": (16, "requests in flight"),
}


def add_scenario_flags(parser: argparse.ArgumentParser) -> None:
    """The optional scenario file and every flag that can replace an entry of it."""
    parser.add_argument(
        "scenario", nargs="?", metavar="SCENARIO", help="scenario file, or the name of a shipped example"
    )
    add_deployment_flags(parser)
    _add_workload_flags(parser)
    _add_objective_flags(parser)


def add_deployment_flags(parser: argparse.ArgumentParser) -> None:
    """What runs where."""
    group = parser.add_argument_group("deployment (defaults hold where no scenario is given)")
    group.add_argument(
        "--model",
        metavar="NAME",
        help="canonical key, hub name or path of a config.json (required without a scenario)",
    )
    add_approximate(group)
    add_calibration(group)
    group.add_argument(
        "--system",
        metavar="NAME",
        help="canonical key such as h200_sxm, or a device or cluster file (required without a scenario)",
    )
    group.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        help="devices of the whole deployment (default: tp x dp x pp, one replica)",
    )
    for name, text in (
        ("tp", "attention tensor-parallel width, devices"),
        ("pp", "pipeline stages"),
        ("ep", "expert-parallel width, devices"),
        ("dp", "data-parallel attention ranks of a replica"),
    ):
        group.add_argument(
            f"--{name}", type=int, metavar="N", help=f"{text} (default: {field_default(name)})"
        )
    _add_engine_flags(group)


def _add_engine_flags(group: argparse._ActionsContainer) -> None:
    """The serving engine, and how it stores weights and cache."""
    group.add_argument(
        "--stack", metavar="NAME", help=f"vllm, sglang or trtllm (default: {field_default('stack')})"
    )
    group.add_argument(
        "--stack-version", metavar="VERSION", help="such as 0.5.9 (default: the newest that is described)"
    )
    group.add_argument(
        "--precision",
        metavar="DTYPE",
        help="of weights: bf16, fp8, fp4, int8, or a format such as fp8_block "
        f"(default: a config.json's own, else {field_default('precision')})",
    )
    group.add_argument(
        "--pruning",
        metavar="ZEROS",
        help="of inner weights: a fraction of zeros such as 0.7, or 2of4 (default: none)",
    )
    group.add_argument(
        "--expert-load",
        metavar="LAW",
        help="rows of experts: balanced, power_law (exponent fitted to measured runs) or power_law_ALPHA; "
        "with _eplb or _eplbCOPIES behind it experts are placed by load, with so many redundant copies "
        f"(default: {field_default('expert_load')})",
    )
    group.add_argument(
        "--kv-dtype",
        metavar="DTYPE",
        help=f"of the KV cache: bf16, fp8, auto (default: {field_default('kv_dtype')})",
    )


def add_calibration(parser: argparse._ActionsContainer) -> None:
    """The `--calibration` flag, the same in every command that prices kernels."""
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="kernel constants of `silicast calibrate`, over the shipped ones (default: those alone)",
    )


def add_approximate(parser: argparse._ActionsContainer) -> None:
    """The `--approximate` flag, the same in every command that takes a model."""
    parser.add_argument(
        "--approximate",
        action="store_true",
        default=None,
        help="read a config.json of an unknown architecture as the nearest known one, grade D",
    )


def _add_workload_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("workload")
    group.add_argument("--isl", type=int, metavar="N", help=f"mean input length (default: {_default('isl')})")
    group.add_argument(
        "--osl", type=int, metavar="N", help=f"mean output length (default: {_default('osl')})"
    )
    group.add_argument(
        "--lengths", metavar="LAW", help="law of both lengths: fixed, uniform, lognormal (default: fixed)"
    )
    load = group.add_mutually_exclusive_group()
    load.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help=f"of the whole service (default: {_default('concurrency')})",
    )
    load.add_argument(
        "--request-rate", type=float, metavar="RPS", help="Poisson arrivals, requests/s of the whole service"
    )
    load.add_argument("--trace", metavar="FILE", help="trace file to replay (Azure CSV or Mooncake JSONL)")
    group.add_argument(
        "--requests",
        type=int,
        metavar="N",
        help="requests to simulate (default: 10 x concurrency; 1000; whole trace)",
    )
    group.add_argument("--seed", type=int, metavar="N", help="of every random draw (default: 0)")


def _add_objective_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("objectives and price")
    group.add_argument(
        "--ttft", type=float, metavar="MS", help="limit on time to first token, ms (default: none)"
    )
    group.add_argument(
        "--tpot", type=float, metavar="MS", help="limit on time per output token, ms (default: none)"
    )
    percentile = Objectives.model_fields["percentile"].default
    group.add_argument(
        "--percentile",
        type=float,
        metavar="P",
        help=f"at which the limits hold, percent (default: {percentile})",
    )
    group.add_argument(
        "--price", type=float, metavar="USD", help="USD per GPU-hour (default: none, and no cost is shown)"
    )


def output_path(text: str) -> Path:
    """An argparse type for a file to be written: refused before the work when it cannot be."""
    from reports.files import check_writable

    path = Path(text)
    try:
        check_writable(path)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def field_default(name: str) -> Any:
    """The default that the scenario's schema states for an entry of the deployment."""
    return Deployment.model_fields[name].default


def _default(name: str) -> str:
    value, unit = WORKLOAD_DEFAULTS[name]
    return f"{value} {unit}"
