"""Tiny models of several families with spread weights, and folders of their checkpoints."""

from pathlib import Path

import torch
from tiny import TINY, randomise

from model_graphs.architectures import (
    GptOssConfig,
    LlamaConfig,
    MiniMaxM2Config,
    ModelConfig,
    Qwen2Config,
    Qwen3MoeConfig,
)
from model_graphs.architectures.deepseek import DeepSeekV2Config, DeepSeekV32Config
from model_graphs.architectures.dense import Yarn
from reference_impl.checkpoints.writer import write_checkpoint
from reference_impl.decoder import Decoder, build_model

_GROUPED = {
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
}
_EXPERTS = {"head_dim": 16, "num_experts_per_tok": 2}
LLAMA = LlamaConfig(**_GROUPED, intermediate_size=96)
TIED = LlamaConfig(**_GROUPED | {"tie_word_embeddings": True}, intermediate_size=96)
QWEN2 = Qwen2Config(**_GROUPED, intermediate_size=96)
QWEN3_MOE = Qwen3MoeConfig(
    **_GROUPED | _EXPERTS, intermediate_size=96, moe_intermediate_size=32, num_experts=8, norm_topk_prob=True
)
YARN = Yarn(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, truncate=False)
GPT_OSS = GptOssConfig(
    **_GROUPED | _EXPERTS | {"rope_scaling": YARN},
    intermediate_size=32,
    num_local_experts=4,
    sliding_window=8,
    layer_types=("sliding_attention", "full_attention"),
)
MINIMAX = MiniMaxM2Config(
    **_GROUPED | _EXPERTS | {"rope_theta": 5000.0}, rotary_dim=8, intermediate_size=32, num_local_experts=8
)
SPARSE = DeepSeekV32Config(
    **TINY.model_dump() | {"num_nextn_predict_layers": 0},
    index_n_heads=16,
    index_head_dim=16,
    index_topk=8,
)
_V2 = TINY.model_dump(include=set(DeepSeekV2Config.model_fields)) | {"q_lora_rank": None}
LITE = DeepSeekV2Config(**_V2 | {"n_group": 1, "topk_group": 1}, topk_method="greedy")
MODELS: dict[str, ModelConfig] = {
    "deepseek": TINY,
    "deepseek sparse": SPARSE,
    "deepseek lite": LITE,
    "llama": LLAMA,
    "tied llama": TIED,
    "qwen2": QWEN2,
    "qwen3-moe": QWEN3_MOE,
    "gpt-oss": GPT_OSS,
    "minimax": MINIMAX,
}
SHARD_BYTES = 200_000


def made(config: ModelConfig, dtype: torch.dtype = torch.float32) -> Decoder:
    """A model with spread weights."""
    torch.manual_seed(0)
    model = build_model(config.blueprint, dtype)
    randomise(model)
    return model


def written(
    config: ModelConfig, folder: Path, form: str = "plain", dtype: torch.dtype = torch.float32
) -> Decoder:
    """The model whose checkpoint is now in the folder."""
    model = made(config, dtype)
    write_checkpoint(model, config, folder, SHARD_BYTES, form)
    return model
