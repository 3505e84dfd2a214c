"""Builds what is measured: a model of the asked width and depth with random weights, and a step's inputs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hardware_specs.records.errors import DoesNotFitError, InputError, Problem
from model_graphs.configs import DeepSeekV3Config, ModelRecord
from reference_impl.deepseek_v3 import build_model
from reference_impl.measurement.machine import available_bytes
from reference_impl.measurement.request import DTYPES, MeasurementRequest

NARROW_LAYERS = 4

#: the greatest value that a field of a narrow model keeps: the same operators, in milliseconds
NARROW = {
    "vocab_size": 4096,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "q_lora_rank": 192,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "intermediate_size": 1024,
    "moe_intermediate_size": 256,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
}


@dataclass(frozen=True)
class StepSubject:
    """A model with everything that one step of it needs."""

    model: nn.Module
    step: Callable[[], object]
    n_layers: int


def measured_config(record: ModelRecord, request: MeasurementRequest) -> DeepSeekV3Config:
    """The config at the asked width and depth, without multi-token prediction.

    Of fewer layers than the model has, as large a share is dense as in the whole, and one at least.

    Raises:
        InputError: the model has fewer layers than asked for.
    """
    config = record.config
    n_layers = request.n_layers or (NARROW_LAYERS if request.width == "narrow" else config.num_hidden_layers)
    if n_layers > config.num_hidden_layers:
        requirement = f"must be at most the {config.num_hidden_layers} layers of {record.key}"
        raise InputError(Problem(requirement, str(n_layers), path="n_layers"))
    share = config.first_k_dense_replace / config.num_hidden_layers
    n_dense = min(config.first_k_dense_replace, max(round(share * n_layers), 1))
    changes = {"num_hidden_layers": n_layers, "first_k_dense_replace": n_dense, "num_nextn_predict_layers": 0}
    if request.width == "narrow":
        changes |= {name: min(value, getattr(config, name)) for name, value in NARROW.items()}
    return DeepSeekV3Config.model_validate(config.model_dump() | changes)


@torch.no_grad()
def build_subject(record: ModelRecord, request: MeasurementRequest) -> StepSubject:
    """The model on its device with seeded random weights, and a step of the asked phase.

    Raises:
        InputError: the model cannot be built as asked.
        DoesNotFitError: its weights do not fit into the memory that is free now.
    """
    config = measured_config(record, request)
    dtype = DTYPES[request.dtype]
    _check_memory(build_model(config, dtype, "meta"), record, request)
    generator = torch.Generator().manual_seed(request.seed)
    model = build_model(config, dtype, "cpu")
    randomise(model, generator)
    model = model.to(request.device)
    ids, positions, past = _inputs(model, config.vocab_size, request, generator)
    absorbed = request.phase != "prefill"

    def step() -> object:
        with torch.no_grad():
            return model(ids, positions, past, absorbed)

    return StepSubject(model, step, config.num_hidden_layers)


@torch.no_grad()
def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Fill weights so that activations keep their scale, norms with ones, biases with small numbers."""
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0.0, weight.shape[-1] ** -0.5, generator=generator)
        else:
            weight.fill_(1.0)
    for name, buffer in model.named_buffers():
        if name.endswith("bias"):
            buffer.normal_(0.0, 0.01, generator=generator)


def _check_memory(model: nn.Module, record: ModelRecord, request: MeasurementRequest) -> None:
    needed = sum(tensor.nbytes for tensor in model.parameters())
    available = available_bytes(request.device)
    if available is not None and needed > available:
        what = f"{record.key} at {request.width} width in {request.dtype}"
        hint = "fewer --layers, or --width narrow"
        raise DoesNotFitError(what, needed, available, hint)


def _inputs(
    model: nn.Module, n_rows: int, request: MeasurementRequest, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[Tensor] | None]:
    """Ids, positions and, where there are past tokens, a random cache of theirs a layer."""
    shape = (request.batch, request.new_tokens)
    ids = torch.randint(n_rows, shape, generator=generator).to(request.device)
    positions = torch.arange(request.past_tokens, request.past_tokens + request.new_tokens).expand(shape)
    positions = positions.to(request.device)
    if not request.past_tokens:
        return ids, positions, None
    *_, caches = model(ids[:1, :1], positions[:1, :1], None, False)
    return ids, positions, [_random_cache(one, request, generator) for one in caches]


def _random_cache(like: Tensor, request: MeasurementRequest, generator: torch.Generator) -> Tensor:
    shape = (request.batch, request.past_tokens, *like.shape[2:])
    return torch.randn(shape, dtype=like.dtype, generator=generator).to(like.device)
