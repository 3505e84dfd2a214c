"""A DeepSeek V3 small enough to run in a test, without `transformers`."""

import torch
from torch import Tensor, nn

from model_graphs.architectures.deepseek import DeepSeekV3Config, RopeScaling

YARN = RopeScaling(
    factor=40.0,
    original_max_position_embeddings=64,
    beta_fast=32.0,
    beta_slow=1.0,
    mscale=1.0,
    mscale_all_dim=1.0,
)
TINY = DeepSeekV3Config(
    vocab_size=512,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    q_lora_rank=48,
    kv_lora_rank=32,
    qk_nope_head_dim=16,
    qk_rope_head_dim=8,
    v_head_dim=16,
    intermediate_size=256,
    first_k_dense_replace=1,
    moe_intermediate_size=64,
    n_routed_experts=16,
    n_shared_experts=1,
    num_experts_per_tok=4,
    n_group=4,
    topk_group=2,
    routed_scaling_factor=2.5,
    norm_topk_prob=True,
    num_nextn_predict_layers=1,
    max_position_embeddings=2560,
    rms_norm_eps=1e-6,
    rope_theta=10000.0,
    rope_scaling=YARN,
)


@torch.no_grad()
def randomise(module: nn.Module, bias_mean: float = 0.0) -> None:
    """Spread weights, so that no mistake hides behind a default initialisation."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 0.05)
        else:
            parameter.uniform_(0.5, 1.5)
    for name, buffer in module.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.normal_(bias_mean, 0.1)


def positions_of(ids: Tensor, start: int = 0) -> Tensor:
    return torch.arange(start, start + ids.shape[1]).expand(ids.shape[0], -1)


def distance(given: Tensor, wanted: Tensor) -> float:
    return (given - wanted).abs().max().item()


def relative(given: Tensor, wanted: Tensor) -> float:
    return distance(given, wanted) / wanted.abs().max().item()
