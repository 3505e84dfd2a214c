"""A `config.json` of an unknown architecture, read as the nearest known one: every number of it is grade D.

The rule: a latent rank of keys and values means DeepSeek V3; a number of experts means Qwen3-MoE; everything
else Llama. Widths and counts come from the file, under the names that families use; what it leaves out takes
the nearest architecture's usual value, and each such key is told.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.yaml_reader import Document, Plain
from model_graphs.architectures import ARCHITECTURES

LATENT, EXPERTS, DENSE = "DeepseekV3ForCausalLM", "Qwen3MoeForCausalLM", "LlamaForCausalLM"
Figures = dict[str, Plain]

#: other names of a key, in the order in which they are looked for
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("n_kv_heads", "num_kv_heads", "multi_query_group_num"),
    "vocab_size": ("padded_vocab_size",),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "ffn_dim", "d_ff"),
    "max_position_embeddings": ("n_positions", "n_ctx", "seq_length", "max_sequence_length"),
    "rms_norm_eps": ("layer_norm_epsilon", "layer_norm_eps", "norm_eps", "layernorm_epsilon"),
    "num_experts": ("n_routed_experts", "num_local_experts", "moe_num_experts"),
    "num_experts_per_tok": ("moe_top_k", "moe_topk", "num_experts_per_token", "top_k_experts", "moe_k"),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_ffn_hidden_size"),
    "n_shared_experts": ("num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
}
_REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_USUAL: Mapping[str, Plain] = {
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "norm_topk_prob": True,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "first_k_dense_replace": 0,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.0,
    "num_nextn_predict_layers": 0,
}
#: keys of parts that cost time or memory, told when the nearest architecture has none of them
_COSTLY = (
    "n_shared_experts",
    "shared_expert_intermediate_size",
    "first_k_dense_replace",
    "num_nextn_predict_layers",
    "mlp_only_layers",
    "sliding_window",
    "layer_types",
    "attn_type_list",
    "hybrid_override_pattern",
    "linear_num_value_heads",
    "mamba_num_heads",
    "index_topk",
    "vision_config",
    "audio_config",
)


@dataclass(frozen=True)
class Approximation:
    """Figures under the names of the nearest architecture; `given` is the one that the file names."""

    given: str = ""
    architecture: str = ""
    data: Figures = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


#: of a file whose architecture is known
EXACT = Approximation()


def approximated(document: Document, data: Mapping[str, Plain], given: str) -> Approximation:
    """The figures of a file as those of the nearest architecture.

    Raises:
        InputError: the file leaves out a width or count without which no decoder is described.
    """
    nested = data.get("text_config")
    figures = _spelled({**data, **nested} if isinstance(nested, dict) else dict(data))
    name = nearest_architecture(figures)
    wanted = (*_REQUIRED, *_needed_widths(name, figures))
    missing = [key for key in wanted if not isinstance(figures.get(key), int)]
    if missing:
        requirement = f"must be given as a whole number, to read {given} as {name}"
        raise InputError(*(document.place((key,), Problem(requirement)) for key in missing))
    made = _Maker(name, figures)
    made.complete()
    made.drop_foreign()
    head = f"grade D: {given} is not known and is read as {name}, the nearest by its keys"
    return Approximation(given, name, made.figures, tuple(made.assumed), (head, *made.notes()))


def nearest_architecture(figures: Mapping[str, Plain]) -> str:
    """The known architecture that the keys of a file are nearest to."""
    if figures.get("kv_lora_rank") and figures.get("num_experts"):
        return LATENT
    return EXPERTS if figures.get("num_experts") else DENSE


def _needed_widths(name: str, figures: Mapping[str, Plain]) -> tuple[str, ...]:
    if name == DENSE:
        return ("intermediate_size",)
    own = "moe_intermediate_size" if "moe_intermediate_size" in figures else "intermediate_size"
    return (own, "num_experts_per_tok")


def _spelled(data: Figures) -> Figures:
    """The figures with every key under the name that is used here; a list of equal counts is one count."""
    found = dict(data)
    for key, others in _SPELLINGS.items():
        value = next((data[name] for name in (key, *others) if data.get(name) is not None), None)
        if isinstance(value, list) and value and all(one == value[0] for one in value):
            value = value[0]
        if value is not None:
            found[key] = value
    return found


class _Maker:
    """Completes the figures of one file, and remembers what it assumed and what it left out."""

    def __init__(self, name: str, figures: Figures) -> None:
        self.kind = ARCHITECTURES[name]
        self.figures = figures
        self.assumed: list[str] = []
        self._left_out: list[str] = []

    def complete(self) -> None:
        """Give every field that the file leaves out its usual value."""
        for key, value in _derived(self.figures):
            if key not in self.figures and key in self.kind.model_fields:
                self._assume(key, value)
        for key, value in _USUAL.items():
            if key not in self.figures and key in self.kind.model_fields:
                self._assume(key, value)

    def _assume(self, key: str, value: Plain) -> None:
        self.figures[key] = value
        self.assumed.append(key)

    def drop_foreign(self) -> None:
        """Leave out what the nearest architecture cannot express."""
        scaling = self.figures.get("rope_scaling")
        if scaling is not None and not _has_known_scaling(self.kind.names[0], scaling):
            self._drop("rope_scaling", None)
        for key, _ in list(self.kind.foreign(self.figures)):
            self._drop(key, self.kind.fixed.get(key))
        for key in _COSTLY:
            if self.figures.get(key) and key not in self.kind.model_fields and key not in self.kind.fixed:
                self._drop(key, None)

    def _drop(self, key: str, value: Plain) -> None:
        self._left_out.append(f"{key} = {self.figures[key]!r}")
        self.figures[key] = value

    def notes(self) -> Iterator[str]:
        """What was assumed and left out, in sentences."""
        if self.assumed:
            values = ", ".join(f"{key} = {self.figures[key]!r}" for key in self.assumed)
            yield f"assumed, because the file does not say: {values}"
        if self._left_out:
            yield f"left out, because the nearest architecture has no such part: {', '.join(self._left_out)}"


def _derived(figures: Figures) -> Iterator[tuple[str, Plain]]:
    """Values that follow from others where they are not given."""
    hidden, heads = cast(int, figures["hidden_size"]), cast(int, figures["num_attention_heads"])
    yield "num_key_value_heads", heads
    yield "head_dim", hidden // max(heads, 1)
    yield "intermediate_size", figures.get("moe_intermediate_size")
    yield "moe_intermediate_size", figures.get("intermediate_size")
    yield "n_routed_experts", figures.get("num_experts")
    yield "q_lora_rank", min(1536, hidden)


def _has_known_scaling(architecture: str, scaling: Plain) -> bool:
    kind = scaling.get("rope_type", scaling.get("type")) if isinstance(scaling, dict) else None
    return kind in (("yarn",) if architecture == LATENT else ("linear", "llama3", "yarn"))
