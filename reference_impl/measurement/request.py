"""What a measurement asks for, checked as a whole before anything is built."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.placement import Place, PlacementPlan

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PHASES = ("prefill", "chunked_prefill", "decode")
_CHOICES = {"device": ("cpu", "cuda"), "width": ("narrow", "full"), "phase": PHASES, "dtype": tuple(DTYPES)}
_LEAST = {"n_layers": 1, "batch": 1, "new_tokens": 1, "past_tokens": 0, "repeats": 1, "warm_up": 1}


@dataclass(frozen=True)
class MeasurementRequest:
    """One step of a model on a device, and how often it is repeated.

    `n_layers` None means all layers of the full width, and four of the narrow one; `n_threads` None means as
    many as PyTorch takes by itself. Under a `placement` the device is what the plan calls `gpu`, and `mapped`
    sends a place to the device of another.

    Raises:
        InputError: with every entry that is wrong.
    """

    model: str
    device: str = "cpu"
    width: str = "narrow"
    n_layers: int | None = None
    phase: str = "decode"
    batch: int = 1
    new_tokens: int = 1
    past_tokens: int = 0
    dtype: str = "fp32"
    repeats: int = 5
    warm_up: int = 2
    cold_caches: bool = False
    n_threads: int | None = None
    seed: int = 0
    placement: PlacementPlan | None = None
    mapped: Mapping[Place, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [*_choice_problems(self), *_count_problems(self), *_phase_problems(self)]
        if problems:
            raise InputError(*problems)


def _choice_problems(request: MeasurementRequest) -> Iterator[Problem]:
    for name, choices in _CHOICES.items():
        given = getattr(request, name)
        if given not in choices:
            requirement = f"must be one of {', '.join(choices)}"
            yield Problem(requirement, given, path=name, suggestion=nearest(given, choices))
    if request.device == "cuda" and not torch.cuda.is_available():
        yield Problem("must be a device of this machine, and PyTorch finds no CUDA device", path="device")


def _count_problems(request: MeasurementRequest) -> Iterator[Problem]:
    for name, least in _LEAST.items():
        given = getattr(request, name)
        if given is not None and given < least:
            yield Problem(f"must be at least {least}", str(given), path=name)
    if request.n_threads is not None and request.n_threads < 1:
        yield Problem("must be at least 1", str(request.n_threads), path="n_threads")


def _phase_problems(request: MeasurementRequest) -> Iterator[Problem]:
    if request.phase == "prefill" and request.past_tokens:
        requirement = "past tokens belong to phases decode and chunked_prefill"
        yield Problem(requirement, str(request.past_tokens), path="past_tokens")
    if request.phase != "prefill" and request.past_tokens == 0:
        yield Problem(f"phase {request.phase} needs at least 1", "0", path="past_tokens")
    if request.phase == "decode" and request.new_tokens != 1:
        yield Problem("phase decode has 1 new token a sequence", str(request.new_tokens), path="new_tokens")
