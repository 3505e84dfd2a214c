"""One run of the reference model's generation, as the command asks for it.

The reference implementation is imported here when it is used, because it needs torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.quantities import parse_quantity
from model_graphs.blueprint import Blueprint
from model_graphs.configs import resolve_model
from model_graphs.page_ledger import Traffic
from model_graphs.tiers import CachePolicy, Spill, Tier, TierName, cached_layers

if TYPE_CHECKING:
    import torch

    from reference_impl.decoder import Decoder
    from reference_impl.generation.drafters import Drafter
    from reference_impl.generation.generate import Generation
    from reference_impl.generation.paged_cache import PagedCache

DRAFTERS = ("mtp", "draft")
DTYPES = ("fp32", "bf16")
COUNTS = ("sequences", "prompt_tokens", "new_tokens", "chunk_tokens", "depth")


@dataclass(frozen=True)
class GenerateRequest:
    """What to generate with which model, cache and drafts; fields are named as the command's flags."""

    model: str | None
    tiny: bool
    checkpoint: Path | None
    sequences: int
    prompt_tokens: int
    new_tokens: int
    chunk_tokens: int | None
    temperature: float
    seed: int
    dtype: str
    tiers: str | None
    page_tokens: int
    spill: str
    spill_folder: Path | None
    speculative: str | None
    depth: int
    draft_checkpoint: Path | None


@dataclass(frozen=True)
class GenerationReport:
    """A run: what was asked, what the model was made of, what came out, bytes moved and held by tier."""

    request: GenerateRequest
    blueprint: Blueprint
    n_parameters: int
    generation: "Generation"
    moved_bytes: Traffic | None
    held_bytes: Mapping[TierName, int] | None


def run_generation(request: GenerateRequest) -> GenerationReport:
    """Run the request.

    Raises:
        InputError: with every problem of the request.
        DoesNotFitError: the cache does not fit into the tiers.
    """
    policy = check(request)
    import torch

    from reference_impl.generation.generate import generate
    from reference_impl.generation.sampling import Sampling
    from reference_impl.generation.speculative import speculate

    model = _model(request)
    drafter = _drafter(request, model)
    draws = torch.Generator().manual_seed(request.seed)
    shape = (request.sequences, request.prompt_tokens)
    prompt = torch.randint(0, model.blueprint.vocab_size, shape, generator=draws)
    sampling = Sampling(request.temperature, request.seed)
    generate(
        model, prompt[:, :1], 2, sampling
    )  # first calls of every kernel are slow; the clock starts later
    with ExitStack() as opened:
        cache = opened.enter_context(_cache(request, policy, model)) if policy else None
        common = (model, prompt, request.new_tokens, sampling)
        if drafter is None:
            made = generate(*common, cache, request.chunk_tokens)
        else:
            made = speculate(*common, drafter, request.depth, cache, request.chunk_tokens)
        moved = dict(cache.moved_bytes) if cache else None
        held = {tier.name: cache.used_bytes(tier.name) for tier in policy.tiers} if policy and cache else None
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return GenerationReport(request, model.blueprint, n_parameters, made, moved, held)


def check(request: GenerateRequest) -> CachePolicy | None:
    """The policy of the cache, or None for a contiguous one.

    Raises:
        InputError: with every problem of the request.
    """
    problems = list(_problems(request))
    policy = None
    if request.tiers is not None:
        try:
            policy = read_policy(request.tiers, request.page_tokens, request.spill)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return policy


def _problems(request: GenerateRequest) -> Iterator[Problem]:
    if request.tiny and request.model is None:
        yield Problem("must name the model whose narrow member is to run", path="MODEL")
    if request.checkpoint is not None and request.model is not None:
        yield Problem("must be left out: the checkpoint says what it is", request.model, path="MODEL")
    yield from _choice_problems("--dtype", request.dtype, DTYPES)
    yield from _choice_problems("--speculative", request.speculative, DRAFTERS)
    for name in COUNTS:
        count = getattr(request, name)
        if count is not None and count < 1:
            yield Problem("must be at least 1", str(count), path=f"--{name.replace('_', '-')}")
    if not request.temperature >= 0:
        yield Problem("must be at least 0", str(request.temperature), path="--temperature")
    if request.speculative == "draft" and request.checkpoint and request.draft_checkpoint is None:
        yield Problem("must be given to draft for a checkpoint", path="--draft-checkpoint")
    if request.draft_checkpoint and (request.speculative != "draft" or not request.checkpoint):
        requirement = "needs --checkpoint and --speculative draft"
        yield Problem(requirement, str(request.draft_checkpoint), path="--draft-checkpoint")


def _choice_problems(flag: str, given: str | None, choices: tuple[str, ...]) -> Iterator[Problem]:
    if given is not None and given not in choices:
        requirement = f"must be one of {', '.join(choices)}"
        yield Problem(requirement, given, path=flag, suggestion=nearest(given, choices))


def read_policy(text: str, page_tokens: int, spill: str) -> CachePolicy:
    """The policy of tiers such as `device=64 KiB,host=1 MiB,disk`; a tier without a size has no limit.

    Raises:
        InputError: with every problem of tiers, sizes and policy.
    """
    problems = list(_choice_problems("--spill", spill, tuple(Spill)))
    tiers = []
    for part in text.split(","):
        name, _, size = (word.strip() for word in part.partition("="))
        problems += _choice_problems("--tiers", name, tuple(TierName))
        try:
            capacity = int(parse_quantity(size, "bytes")) if size else None
        except InputError as error:
            problems += [Problem(p.requirement, p.given, path=f"--tiers {name}") for p in error.problems]
            continue
        if name in tuple(TierName):
            tiers.append(Tier(TierName(name), capacity))
    if problems:
        raise InputError(*problems)
    return CachePolicy(page_tokens, tuple(tiers), Spill(spill))


def _model(request: GenerateRequest) -> "Decoder":
    from reference_impl.checkpoints.reader import load_checkpoint
    from reference_impl.decoder import build_model
    from reference_impl.narrow import narrow, randomise

    if request.checkpoint is not None:
        return load_checkpoint(request.checkpoint, _torch_dtype(request))
    assert request.model is not None, "checked before"
    model = build_model(narrow(resolve_model(request.model).blueprint), _torch_dtype(request))
    randomise(model, request.seed)
    return model


def _drafter(request: GenerateRequest, model: "Decoder") -> "Drafter | None":
    from reference_impl.checkpoints.reader import load_checkpoint
    from reference_impl.decoder import build_model
    from reference_impl.generation.drafters import LARGEST_CHUNK, DraftModel, MTPDrafter
    from reference_impl.narrow import narrow, randomise

    if request.speculative is None:
        return None
    if request.speculative == "mtp":
        return MTPDrafter(model, chunk_tokens=request.chunk_tokens or LARGEST_CHUNK)
    if request.draft_checkpoint is not None:
        smaller = load_checkpoint(request.draft_checkpoint, _torch_dtype(request))
        wanted, given = model.blueprint.vocab_size, smaller.blueprint.vocab_size
        if given != wanted:
            requirement = f"must have the vocabulary of the checkpoint, {wanted:,} tokens"
            raise InputError(Problem(requirement, f"{given:,}", path="--draft-checkpoint"))
        return DraftModel(smaller, chunk_tokens=request.chunk_tokens or LARGEST_CHUNK)
    smaller = build_model(narrow(model.blueprint, layers_of_a_kind=1), _torch_dtype(request))
    randomise(smaller, request.seed + 1)
    return DraftModel(smaller, chunk_tokens=request.chunk_tokens or LARGEST_CHUNK)


def _cache(request: GenerateRequest, policy: CachePolicy, model: "Decoder") -> "PagedCache":
    from reference_impl.generation.paged_cache import PagedCache

    layers = cached_layers(model.blueprint, _torch_dtype(request).itemsize)
    folder = request.spill_folder or Path(gettempdir())
    return PagedCache(policy, layers, request.sequences, spill_folder=folder)


def _torch_dtype(request: GenerateRequest) -> "torch.dtype":
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}[request.dtype]
