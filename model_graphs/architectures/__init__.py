"""Architectures that there is a reference implementation of: a config in `config.json`'s words for each."""

from collections.abc import Mapping
from functools import reduce
from operator import or_

from model_graphs.architectures.base import ModelConfig
from model_graphs.architectures.deepseek import (
    DeepSeekV2Config,
    DeepSeekV3Config,
    DeepSeekV32Config,
    KimiK25Config,
)
from model_graphs.architectures.glm import Glm4MoeConfig, GlmMoeDsaConfig
from model_graphs.architectures.gpt_oss import GptOssConfig
from model_graphs.architectures.llama import LlamaConfig
from model_graphs.architectures.minimax import MiniMaxM2Config
from model_graphs.architectures.qwen import Qwen2Config, Qwen3Config, Qwen3MoeConfig

CONFIGS: tuple[type[ModelConfig], ...] = (
    DeepSeekV2Config,
    DeepSeekV3Config,
    DeepSeekV32Config,
    KimiK25Config,
    Glm4MoeConfig,
    GlmMoeDsaConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    GptOssConfig,
    MiniMaxM2Config,
)

#: class of the config by the name under `architectures` of a `config.json`
ARCHITECTURES: Mapping[str, type[ModelConfig]] = {name: kind for kind in CONFIGS for name in kind.names}

#: a config of any of them
AnyConfig = reduce(or_, CONFIGS)

__all__ = ["ARCHITECTURES", "CONFIGS", "AnyConfig", "ModelConfig"]
