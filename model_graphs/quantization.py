"""What the `quantization_config` of a `config.json` says about stored weights.

| method | says the type with | says what stays in 16 bits with |
|---|---|---|
| fp8 | `weight_block_size`, or one scale a tensor | `modules_to_not_convert` |
| fbgemm_fp8 | (one scale a row) | `modules_to_not_convert` |
| mxfp4 | | `modules_to_not_convert` |
| compressed-tensors | `config_groups.*.weights` | `ignore`, and `targets` of the groups |
| modelopt | `quant_algo` | `ignore` or `exclude_modules` |
| awq, gptq | `bits`, `group_size` | `modules_to_not_convert` |

Types that no precision stores are refused with the list of those that are known. A component of which a file
keeps a part in 16 bits is counted as the larger part of it, and a note says so.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.yaml_reader import Document, Plain
from model_graphs.blueprint import (
    AttentionSpec,
    Blueprint,
    FeedForwardSpec,
    LatentAttentionSpec,
    LayerSpec,
    Mixer,
    MixtureSpec,
)
from model_graphs.storage import FORMATS, NAME_OF, WIDTH_OF, Component, Precision, Storage

KEY = "quantization_config"
Section = Mapping[str, Plain]

_KEPT_KEYS = ("modules_to_not_convert", "ignore", "exclude_modules")
_E4M3 = (None, "e4m3", "float8_e4m3fn")
_LATENT = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
_GROUPED = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED = ("gate_proj", "up_proj", "down_proj")
_MIXERS = ("self_attn", "linear_attn", "mixer")
_MIXTURES = ("mlp", "block_sparse_moe")


@dataclass(frozen=True)
class Quantization:
    """The precision that a file asks for, how it stores weights, and what a reader should know."""

    precision: Precision
    storage: Storage | None
    notes: tuple[str, ...]


def read_quantization(document: Document, blueprint: Blueprint) -> Quantization:
    """How the file's weights are stored: in 16 bits where it has no `quantization_config`.

    Raises:
        InputError: the method or the type is not known, or the section is not of its method's form.
    """
    data = document.data
    given = data.get(KEY) if isinstance(data, dict) else None
    if given is None:
        return Quantization(Precision.BF16, None, ())
    if not isinstance(given, dict):
        raise InputError(document.place((KEY,), Problem("must be a mapping of keys to values", repr(given))))
    try:
        return _quantization(given, blueprint)
    except InputError as error:
        problems = (_placed(document, problem) for problem in error.problems)
        raise InputError(*problems) from error


def _placed(document: Document, problem: Problem) -> Problem:
    path = (KEY, problem.path) if problem.path else (KEY,)
    return document.place(path, problem)


def _quantization(section: Section, blueprint: Blueprint) -> Quantization:
    method = section.get("quant_method")
    if not isinstance(method, str) or method not in _METHODS:
        requirement = f"must be one of {', '.join(_METHODS)}"
        suggestion = nearest(str(method), _METHODS)
        raise InputError(Problem(requirement, repr(method), path="quant_method", suggestion=suggestion))
    element = _METHODS[method](section)
    if element not in NAME_OF:
        requirement = f"weights must be stored in one of {', '.join(NAME_OF)}, or in 16 bits"
        raise InputError(Problem(requirement, f"{element} ({method})"))
    shares = _stored_shares(section, blueprint)
    stored = tuple(component for component, share in shares.items() if share > 0.5)
    notes = [*_share_notes(shares, element), *_cache_notes(section)]
    if not stored:
        return Quantization(Precision.BF16, None, ("config.json keeps every product in 16 bits", *notes))
    storage = FORMATS[NAME_OF[element]].model_copy(update={"components": stored})
    what = f"config.json stores {', '.join(stored)} in {element} ({method}), the rest in 16 bits"
    return Quantization(WIDTH_OF.get(element, NAME_OF[element]), storage, (what, *notes))


def _share_notes(shares: Mapping[Component, float], element: str) -> Iterator[str]:
    for component, share in shares.items():
        if 0 < share < 1:
            counted = element if share > 0.5 else "16 bits"
            yield f"config.json stores {share:.0%} of {component} in {element}; all is counted in {counted}"


def _cache_notes(section: Section) -> Iterator[str]:
    if section.get("kv_cache_scheme") or section.get("kv_cache_quant_algo"):
        yield "config.json has scales for a KV cache in FP8, which is used where kv_dtype says so"


# ---- the element type, method by method


def _fp8(section: Section) -> str:
    if section.get("fmt") not in _E4M3:
        raise InputError(Problem("must be e4m3", repr(section["fmt"]), path="fmt"))
    block = section.get("weight_block_size")
    return "fp8" if block is None else _blocked(block, "weight_block_size")


def _blocked(block: Plain, path: str) -> str:
    if block != [128, 128]:
        raise InputError(Problem("must be blocks of [128, 128]", repr(block), path=path))
    return "fp8_block"


def _modelopt(section: Section) -> str:
    algorithms = {"FP8": "fp8", "FP8_PB_WO": "fp8_block", "NVFP4": "nvfp4", "MXFP4": "mxfp4"}
    name = section.get("quant_algo")
    if not isinstance(name, str) or name not in algorithms:
        requirement, hint = f"must be one of {', '.join(algorithms)}", nearest(str(name), algorithms)
        raise InputError(Problem(requirement, repr(name), path="quant_algo", suggestion=hint))
    return algorithms[name]


def _compressed(section: Section) -> str:
    found = {_group_element(group) for group in _groups(section)}
    if len(found) > 1:
        requirement = "all groups must store weights in one type"
        raise InputError(Problem(requirement, ", ".join(sorted(found)), path="config_groups"))
    return found.pop()


def _groups(section: Section) -> list[Section]:
    given = section.get("config_groups")
    groups = list(given.values()) if isinstance(given, dict) else []
    found: list[Section] = [group for group in groups if isinstance(group, dict)]
    if not found or len(found) < len(groups):
        raise InputError(
            Problem("must be a mapping of names to groups", repr(given)[:80], path="config_groups")
        )
    return found


def _group_element(group: Section) -> str:
    weights = group.get("weights")
    bits = weights.get("num_bits") if isinstance(weights, dict) else None
    if not isinstance(weights, dict) or not isinstance(bits, int):
        requirement = "every group must say num_bits of its weights"
        raise InputError(Problem(requirement, repr(weights)[:80], path="config_groups"))
    kind, size = weights.get("type"), weights.get("group_size")
    if kind == "float" and bits == 8:
        block = weights.get("block_structure")
        return _blocked(block, "config_groups") if weights.get("strategy") == "block" else "fp8"
    if kind == "float" and bits == 4:
        return {16: "nvfp4", 32: "mxfp4"}.get(
            size if isinstance(size, int) else 16, f"float4 in groups of {size}"
        )
    return _integer(bits, size)


def _grouped_integer(section: Section) -> str:
    bits = section.get("bits", section.get("w_bit"))
    if not isinstance(bits, int):
        raise InputError(Problem("must be a whole number", repr(bits), path="bits"))
    return _integer(bits, section.get("group_size", section.get("q_group_size")))


def _integer(bits: int, group: Plain) -> str:
    return f"int{bits}_g{group}" if isinstance(group, int) and group > 0 else f"int{bits}"


_METHODS: Mapping[str, Callable[[Section], str]] = {
    "fp8": _fp8,
    "fbgemm_fp8": lambda section: "fp8",
    "mxfp4": lambda section: "mxfp4",
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "awq": _grouped_integer,
    "gptq": _grouped_integer,
}


# ---- which components are stored so


def _stored_shares(section: Section, blueprint: Blueprint) -> dict[Component, float]:
    """The share of each component's modules that the file quantises, of components that the model has."""
    kept = _kept_patterns(section)
    wanted = _target_patterns(section)
    counts: dict[Component, list[bool]] = {}
    for index, layer in enumerate(blueprint.layers):
        for component, spellings in _modules(layer, f"model.layers.{index}"):
            is_kept = any(_matches(name, pattern) for name in spellings for pattern in kept)
            is_wanted = not wanted or any(_matches(name, pattern) for name in spellings for pattern in wanted)
            counts.setdefault(component, []).append(is_wanted and not is_kept)
    return {component: sum(stored) / len(stored) for component, stored in counts.items()}


def _kept_patterns(section: Section) -> list[str]:
    patterns: list[str] = []
    for key in _KEPT_KEYS:
        patterns += _texts(section.get(key), key)
    return patterns


def _target_patterns(section: Section) -> list[str]:
    """Patterns that a module must match to be quantised; empty when every linear layer is meant."""
    if section.get("quant_method") != "compressed-tensors":
        return []
    targets = [one for group in _groups(section) for one in _texts(group.get("targets"), "config_groups")]
    return [] if "Linear" in targets else targets


def _texts(given: Plain, key: str) -> list[str]:
    if given is None:
        return []
    texts = [one for one in given if isinstance(one, str)] if isinstance(given, list) else []
    if not isinstance(given, list) or len(texts) < len(given):
        raise InputError(Problem("must be a list of module names", repr(given)[:80], path=key))
    for text in texts:
        _check_pattern(text, key)
    return texts


def _check_pattern(text: str, key: str) -> None:
    if text.startswith("re:"):
        try:
            re.compile(text[3:])
        except re.error as error:
            raise InputError(Problem("must be a regular expression", f"{text}: {error}", path=key)) from error


def _matches(name: str, pattern: str) -> bool:
    """Whether the pattern means the module or one that holds it; `re:` begins an expression, `*` is a gap."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], name) is not None
    if "*" in pattern:
        return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
    return f".{pattern}." in f".{name}."


def _modules(layer: LayerSpec, prefix: str) -> Iterator[tuple[Component, Sequence[str]]]:
    """The products of a layer by component, each with the names that files have for it."""
    for name in _mixer_names(layer.mixer):
        yield "attention", tuple(f"{prefix}.{mixer}.{name}" for mixer in _MIXERS)
    part = layer.feed_forward
    if isinstance(part, FeedForwardSpec):
        for name in _GATED:
            yield "mlp", (f"{prefix}.mlp.{name}",)
    elif isinstance(part, MixtureSpec):
        yield from _mixture_modules(part, prefix)


def _mixer_names(mixer: Mixer | None) -> tuple[str, ...]:
    if mixer is None:
        return ()
    if isinstance(mixer, AttentionSpec):
        return _GROUPED
    if isinstance(mixer, LatentAttentionSpec):
        return _LATENT if mixer.q_rank else ("q_proj", *_LATENT[2:])
    return ("in_proj", "out_proj")


def _mixture_modules(part: MixtureSpec, prefix: str) -> Iterator[tuple[Component, Sequence[str]]]:
    for name, short in zip(_GATED, ("w1", "w3", "w2"), strict=True):
        spellings = (f"{mixture}.experts.0.{one}" for mixture in _MIXTURES for one in (name, short))
        yield "moe", tuple(f"{prefix}.{spelling}" for spelling in spellings)
        if part.shared is not None:
            shared = ("shared_experts", "shared_expert")
            yield "shared_expert", tuple(f"{prefix}.mlp.{one}.{name}" for one in shared)
