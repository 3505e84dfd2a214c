"""The reference implementation of DeepSeek V3; R1 and V3.1 are configs of it."""

from reference_impl.deepseek_v3.model import MTP, DecoderLayer, DeepSeekV3, MTPStep, build_model

__all__ = ["MTP", "DecoderLayer", "DeepSeekV3", "MTPStep", "build_model"]
