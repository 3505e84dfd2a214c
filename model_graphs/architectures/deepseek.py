"""DeepSeek V2, V3 (R1, Kimi K2) and V3.2, and models of their architectures.

References: DeepSeek-V2 report (arXiv 2405.04434) section 2.1; DeepSeek-V3 report (arXiv 2412.19437) sections
2.1 and 4.2; DeepSeek-V3.2 report (arXiv 2512.02556) section 2.1.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from hardware_specs.records.errors import Problem
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures.latent import LatentConfig, RopeScaling
from model_graphs.blueprint import Blueprint, IndexerSpec, MixtureSpec, Scoring

__all__ = ["DeepSeekV2Config", "DeepSeekV3Config", "DeepSeekV32Config", "KimiK25Config", "RopeScaling"]


class DeepSeekV2Config(LatentConfig):
    """Widths and counts of a DeepSeek V2 model; Lite makes queries in one product (`q_lora_rank` null)."""

    names: ClassVar[tuple[str, ...]] = ("DeepseekV2ForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        **LatentConfig.fixed,
        "scoring_func": "softmax",
        "norm_topk_prob": False,
    }

    topk_method: Literal["greedy", "group_limited_greedy"]

    @property
    def blueprint(self) -> Blueprint:
        """A softmax router; a group of experts is as good as its best one."""
        limited = self.topk_method == "group_limited_greedy"
        mixture = MixtureSpec(
            experts=self.n_routed_experts,
            topk=self.num_experts_per_tok,
            inter=self.moe_intermediate_size,
            scoring=Scoring.SOFTMAX,
            normalise=False,
            scale=self.routed_scaling_factor,
            groups=self.n_group if limited else 1,
            topk_groups=self.topk_group if limited else 1,
            scored_of_group=1,
            shared=self.shared_expert,
        )
        return self.of_layers(mixture)


class DeepSeekV3Config(LatentConfig):
    """Widths and counts of a DeepSeek V3 model."""

    names: ClassVar[tuple[str, ...]] = ("DeepseekV3ForCausalLM",)
    fixed: ClassVar[Mapping[str, Plain]] = {
        **LatentConfig.fixed,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
    }

    q_lora_rank: int = Field(gt=0)
    norm_topk_prob: bool
    num_nextn_predict_layers: int = Field(ge=0)

    @property
    def blueprint(self) -> Blueprint:
        """Balanced sigmoid routing; an MTP module holds one layer with experts."""
        return self.of_layers(self.mixture, mtp=self.num_nextn_predict_layers)

    @property
    def mixture(self) -> MixtureSpec:
        """The experts of a layer."""
        return MixtureSpec(
            experts=self.n_routed_experts,
            topk=self.num_experts_per_tok,
            inter=self.moe_intermediate_size,
            scoring=Scoring.SIGMOID,
            normalise=self.norm_topk_prob,
            scale=self.routed_scaling_factor,
            groups=self.n_group,
            topk_groups=self.topk_group,
            balanced=True,
            shared=self.shared_expert,
        )


class KimiK25Config(DeepSeekV3Config):
    """Kimi K2.5's language model, a DeepSeek V3 under `text_config`; its vision tower is not part of this."""

    names: ClassVar[tuple[str, ...]] = ("KimiK25ForConditionalGeneration",)

    @classmethod
    def foreign(cls, data: Mapping[str, Plain]) -> Iterator[tuple[str, Problem]]:
        """What the language model has that DeepSeek V3 has not."""
        yield from super().foreign(_language_model(data))

    @classmethod
    def normalised(cls, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """The figures of the language model."""
        return super().normalised(_language_model(data))


def _language_model(data: Mapping[str, Plain]) -> Mapping[str, Plain]:
    inside = data.get("text_config")
    return inside if isinstance(inside, dict) else data


class DeepSeekV32Config(DeepSeekV3Config):
    """Widths and counts of a DeepSeek V3.2 model: V3, and an indexer that picks what a query attends to."""

    names: ClassVar[tuple[str, ...]] = ("DeepseekV32ForCausalLM",)
    neighbours: ClassVar[bool] = False  # how the indexer pairs features to rotate them

    index_n_heads: int = Field(gt=0)
    index_head_dim: int = Field(gt=0)
    index_topk: int = Field(gt=0)

    @property
    def blueprint(self) -> Blueprint:
        """V3 whose attention is sparse, in the MTP modules too."""
        return self.of_layers(self.mixture, self._indexer, self.num_nextn_predict_layers)

    @property
    def _indexer(self) -> IndexerSpec:
        return IndexerSpec(self.index_n_heads, self.index_head_dim, self.index_topk, self.neighbours)
