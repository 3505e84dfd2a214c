"""A small member of a model's family, and random weights for it.

Same kinds of layers, routing rules, positions and tied sizes; fewer layers, narrower. It serves to run code
paths, never to say how fast or how good the model is.
"""

from collections.abc import Mapping

import torch
from torch import nn

from model_graphs.configs import DeepSeekV3Config

#: upper bounds by field name; powers of two, so that what divides still divides
CAPS: Mapping[str, int] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "num_attention_heads": 4,
    "q_lora_rank": 64,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
}
N_LAYERS = 3
WEIGHT_STD = 0.05


def narrow(config: DeepSeekV3Config, n_layers: int = N_LAYERS) -> DeepSeekV3Config:
    """A config of the same structure with `n_layers` layers and widths of at most `CAPS`.

    Positions (`rope_scaling`, `max_position_embeddings`) stay, so that long contexts can be run.
    """
    capped = {name: min(getattr(config, name), cap) for name, cap in CAPS.items()}
    layers = {"num_hidden_layers": min(config.num_hidden_layers, n_layers)}
    return DeepSeekV3Config.model_validate(config.model_dump() | capped | layers)


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Spread weights from a seed: normal matrices, norms around one, small router biases."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.empty(parameter.shape)
        if parameter.dim() > 1:
            drawn.normal_(0, WEIGHT_STD, generator=generator)
        else:
            drawn.uniform_(0.5, 1.5, generator=generator)
        parameter.copy_(drawn)
    for buffer in model.buffers():
        buffer.copy_(torch.empty(buffer.shape).normal_(0, WEIGHT_STD, generator=generator))
