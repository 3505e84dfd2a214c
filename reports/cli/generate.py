"""Generate tokens with a reference model: narrow with random weights, or from a checkpoint. Needs torch.

Counts the bytes that pages of the KV cache move between tiers, and how often drafts of speculative decoding
are accepted. Speeds are those of this machine and of a small model: they say nothing about the full one.
"""

import argparse
from pathlib import Path

from reports.cli.parser import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the request, the cache and the drafts."""
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="canonical key, hub name or path of a config.json"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--tiny", action="store_true", help="a narrow member of MODEL's family with random weights"
    )
    source.add_argument(
        "--checkpoint", metavar="FOLDER", type=Path, help="folder of config.json and safetensors (hub names)"
    )
    _add_request_flags(parser)
    _add_cache_flags(parser)
    _add_draft_flags(parser)
    add_json(parser)


def _add_request_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("request")
    for name, default, text in (
        ("sequences", 1, "sequences of one length"),
        ("prompt-tokens", 64, "random tokens of each prompt"),
        ("new-tokens", 64, "tokens to generate for each"),
        ("seed", 0, "of weights, prompts and draws"),
    ):
        group.add_argument(
            f"--{name}", type=int, metavar="N", default=default, help=f"{text} (default: {default})"
        )
    group.add_argument(
        "--chunk-tokens", type=int, metavar="N", help="tokens of a prefill chunk (default: the whole prompt)"
    )
    group.add_argument(
        "--temperature", type=float, metavar="T", default=0.0, help="of sampling (default: 0, greedy)"
    )
    group.add_argument("--dtype", metavar="DTYPE", default="fp32", help="fp32 or bf16 (default: fp32)")


def _add_cache_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("KV cache")
    group.add_argument(
        "--tiers",
        metavar="LIST",
        help="such as device=64KiB,host=256KiB,disk; no size is no limit (default: one contiguous cache)",
    )
    group.add_argument(
        "--page-tokens", type=int, metavar="N", default=16, help="tokens of a page (default: 16)"
    )
    group.add_argument(
        "--spill",
        metavar="POLICY",
        default="layer",
        help="what leaves a full tier first: layer (runs again last), lru, oldest_block (default: layer)",
    )
    group.add_argument(
        "--spill-folder",
        metavar="FOLDER",
        type=Path,
        help="where the disk tier keeps its file (default: the system's temporary folder)",
    )


def _add_draft_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speculative decoding")
    group.add_argument(
        "--speculative", metavar="DRAFTER", help="mtp (the model's own module) or draft (a separate model)"
    )
    group.add_argument("--depth", type=int, metavar="N", default=2, help="tokens of a draft (default: 2)")
    group.add_argument(
        "--draft-checkpoint", metavar="FOLDER", type=Path, help="the draft model, where --checkpoint is given"
    )


def run(args: argparse.Namespace) -> int:
    """Generate and show."""
    from reports.cli.emit import require_torch

    require_torch("generate")
    from reports.console import console, print_json
    from reports.generation import GenerateRequest, run_generation
    from reports.generation_tables import generation_json, generation_tables

    fields = {name: getattr(args, name) for name in GenerateRequest.__dataclass_fields__}
    report = run_generation(GenerateRequest(**fields))
    if args.json:
        print_json(generation_json(report))
        return 0
    out = console()
    for made in generation_tables(report):
        out.print(made)
    return 0
