"""Architectures that there is a reference implementation of: a config in `config.json`'s words for each."""

from collections.abc import Mapping
from functools import reduce
from operator import or_

from model_graphs.architectures.base import ArchitectureConfig, ModelConfig
from model_graphs.architectures.bert import BertConfig
from model_graphs.architectures.deepseek import (
    DeepSeekV2Config,
    DeepSeekV3Config,
    DeepSeekV32Config,
    KimiK25Config,
)
from model_graphs.architectures.gemma import Gemma3Config, GemmaConfig
from model_graphs.architectures.glm import Glm4MoeConfig, GlmMoeDsaConfig
from model_graphs.architectures.gpt_oss import GptOssConfig
from model_graphs.architectures.layer_normed import (
    BloomConfig,
    GptJConfig,
    OptConfig,
    PhiConfig,
    StableLmConfig,
)
from model_graphs.architectures.llama import LlamaConfig
from model_graphs.architectures.llama4 import Llama4Config
from model_graphs.architectures.minimax import MiniMaxM2Config
from model_graphs.architectures.mixtral import MixtralConfig
from model_graphs.architectures.nemotron_h import NemotronHConfig
from model_graphs.architectures.phi3 import Phi3Config
from model_graphs.architectures.qwen import Qwen2Config, Qwen3Config, Qwen3MoeConfig
from model_graphs.architectures.qwen3_5 import Qwen35MoeConfig
from model_graphs.architectures.qwen_vl import Qwen3VLConfig, Qwen3VLMoeConfig, Qwen25VLConfig
from model_graphs.architectures.vit import VitConfig, VitForDeepSeekV3Config

CONFIGS: tuple[type[ArchitectureConfig], ...] = (
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
    NemotronHConfig,
    Qwen35MoeConfig,
    MixtralConfig,
    GemmaConfig,
    Gemma3Config,
    Phi3Config,
    Llama4Config,
    GptJConfig,
    BloomConfig,
    OptConfig,
    PhiConfig,
    StableLmConfig,
    Qwen25VLConfig,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
    BertConfig,
    VitConfig,
    VitForDeepSeekV3Config,
)

#: class of the config by the name under `architectures` of a `config.json`
ARCHITECTURES: Mapping[str, type[ArchitectureConfig]] = {
    name: kind for kind in CONFIGS for name in kind.names
}

#: a config of any of them
AnyConfig = reduce(or_, CONFIGS)

__all__ = ["ARCHITECTURES", "CONFIGS", "AnyConfig", "ArchitectureConfig", "ModelConfig"]
