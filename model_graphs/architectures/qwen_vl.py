"""Text models of Qwen2.5-VL, Qwen3-VL and Qwen3-VL with experts: those of Qwen2.5 and Qwen3.

Positions have three parts, of time, height and width, which are equal for text: rotation is then the
plain one. The vision tower, and what Qwen3-VL adds of it to the first layers, are not modelled.

References: Qwen2.5-VL report (arXiv 2502.13923) section 2.1; Qwen2-VL report (arXiv 2409.12191) section 2.1.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from hardware_specs.records.errors import Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.dense import GroupedConfig
from model_graphs.architectures.gemma import text_of
from model_graphs.architectures.qwen import Qwen2Config, Qwen3Config, Qwen3MoeConfig


class _TextConfig(GroupedConfig):
    """Reads the figures of the text model, which a `config.json` may hold apart."""

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """Keys of the text model that have another value."""
        yield from super().foreign(text_of(data))

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """The text model's figures; parts of positions are no scaling of them."""
        tied = {"tie_word_embeddings": data.get("tie_word_embeddings", False)}
        text = {**tied, **text_of(data)}
        scaling = text.get("rope_scaling")
        if isinstance(scaling, dict) and "mrope_section" in scaling:
            text["rope_scaling"] = None
        return super().normalised(text)


class Qwen25VLConfig(_TextConfig, Qwen2Config):
    """Widths and counts of the text model of a Qwen2.5-VL model."""

    names: ClassVar[tuple[str, ...]] = ("Qwen2_5_VLForConditionalGeneration",)


class Qwen3VLConfig(_TextConfig, Qwen3Config):
    """Widths and counts of the text model of a Qwen3-VL model."""

    names: ClassVar[tuple[str, ...]] = ("Qwen3VLForConditionalGeneration",)


class Qwen3VLMoeConfig(_TextConfig, Qwen3MoeConfig):
    """Widths and counts of the text model of a Qwen3-VL model with experts."""

    names: ClassVar[tuple[str, ...]] = ("Qwen3VLMoeForConditionalGeneration",)
