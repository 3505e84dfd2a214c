"""Weights of DeepSeek V3 from a state dict with the names of `transformers`, held in memory.

Products that run as one are stored as one: q_a with kv_a, gate with up. A layer closes with the norm that its
successor opens with there. Reading checkpoint files is left to others.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hardware_specs.records.errors import InputError, Problem, nearest
from reference_impl.deepseek_v3.feed_forward import MoE
from reference_impl.deepseek_v3.model import MTP, DecoderLayer, DeepSeekV3

State = Mapping[str, Tensor]
Sources = dict[str, tuple[str, ...]]  # our name -> the tensors that are stacked to make it


def load_main_model(model: DeepSeekV3, state: State) -> None:
    """Fill the main model from the state of `DeepseekV3ForCausalLM`.

    Raises:
        InputError: a tensor is missing or has another shape; all of them are named.
    """
    sources: Sources = {
        "embed_tokens.weight": ("model.embed_tokens.weight",),
        "opening_norm.weight": ("model.layers.0.input_layernorm.weight",),
        "lm_head.weight": ("lm_head.weight",),
    }
    last = len(model.layers) - 1
    for i, layer in enumerate(model.layers):
        closing = "model.norm.weight" if i == last else f"model.layers.{i + 1}.input_layernorm.weight"
        for name, found in _layer_sources(layer, f"model.layers.{i}", closing).items():
            sources[f"layers.{i}.{name}"] = found
    _fill(model, sources, state)


def load_mtp(module: MTP, state: State, prefix: str = "layers.0") -> None:
    """Fill a multi-token prediction module from the state of `transformers`' `MtpModel`.

    Raises:
        InputError: a tensor is missing or has another shape; all of them are named.
    """
    own = {f"{name}.weight": (f"{prefix}.{name}.weight",) for name in ("enorm", "hnorm", "eh_proj")}
    own["opening_norm.weight"] = (f"{prefix}.mtp_block.input_layernorm.weight",)
    layer = _layer_sources(module.layer, f"{prefix}.mtp_block", f"{prefix}.post_norm.weight")
    _fill(module, own | {f"layer.{name}": found for name, found in layer.items()}, state)


def _layer_sources(layer: DecoderLayer, prefix: str, closing_norm: str) -> Sources:
    attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
    kept = ("q_a_layernorm", "q_b_proj", "kv_a_layernorm", "kv_b_proj", "o_proj")
    sources: Sources = {f"self_attn.{name}.weight": (f"{attention}.{name}.weight",) for name in kept}
    sources["self_attn.q_kv_a_proj.weight"] = (
        f"{attention}.q_a_proj.weight",
        f"{attention}.kv_a_proj_with_mqa.weight",
    )
    sources["post_attention_norm.weight"] = (f"{prefix}.post_attention_layernorm.weight",)
    sources["closing_norm.weight"] = (closing_norm,)
    return sources | (_moe_sources(mlp) if isinstance(layer.mlp, MoE) else _mlp_sources("mlp", mlp))


def _mlp_sources(name: str, prefix: str) -> Sources:
    return {
        f"{name}.gate_up_proj.weight": (f"{prefix}.gate_proj.weight", f"{prefix}.up_proj.weight"),
        f"{name}.down_proj.weight": (f"{prefix}.down_proj.weight",),
    }


def _moe_sources(prefix: str) -> Sources:
    kept = ("gate.weight", "gate.e_score_correction_bias", "experts.gate_up_proj", "experts.down_proj")
    routed: Sources = {f"mlp.routed.{name}": (f"{prefix}.{name}",) for name in kept}
    return routed | _mlp_sources("mlp.shared_experts", f"{prefix}.shared_experts")


def _fill(module: nn.Module, sources: Sources, state: State) -> None:
    targets = module.state_dict()
    missing = [name for found in sources.values() for name in found if name not in state]
    if missing:
        raise InputError(
            *(Problem("must be in the state dict", path=n, suggestion=nearest(n, state)) for n in missing)
        )
    stacked = {target: torch.cat([state[name] for name in found]) for target, found in sources.items()}
    wrong = [name for name, tensor in stacked.items() if tensor.shape != targets[name].shape]
    if wrong:
        raise InputError(*(_shape_problem(name, stacked[name], targets[name]) for name in wrong))
    for name, tensor in stacked.items():
        targets[name].copy_(tensor)


def _shape_problem(name: str, given: Tensor, wanted: Tensor) -> Problem:
    return Problem(f"must have the shape {list(wanted.shape)}", str(list(given.shape)), path=name)
