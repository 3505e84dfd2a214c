"""Where the tensors of a published checkpoint lie in the parameters of the model here.

The hub's names differ from those in memory (`published_names`): each expert has its own matrices, a
multi-token prediction module is the layer after the last one. A piece is one published tensor and a view of
one of our parameters that runs through its elements in the published order, so that reading copies into the
view and writing copies from it; neither needs a second parameter. Where a family's tensors are computed from
published ones they are read whole and cannot be written.

Dimensions in names: E experts, F intermediate width, D hidden width.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from reference_impl.decoder import MTP, Decoder
from reference_impl.loading import Recipes, layer_recipes, main_recipes
from reference_impl.published_names import Make, Recipe, names_of, stacked

View = Callable[[Tensor], Tensor]

GATE_UP, DOWN = "mlp.routed.experts.gate_up_proj", "mlp.routed.experts.down_proj"
GATE_UP_BIAS, DOWN_BIAS = "mlp.routed.experts.gate_up_bias", "mlp.routed.experts.down_bias"
#: gate, up and down of an expert, and what the mixture is called there
_EXPERT_NAMES: Mapping[str, tuple[str, str, str, str]] = {
    "MiniMaxM2ForCausalLM": ("block_sparse_moe", "w1", "w3", "w2"),
    "MixtralForCausalLM": ("block_sparse_moe", "w1", "w3", "w2"),
}
_USUAL_NAMES = ("mlp", "gate_proj", "up_proj", "down_proj")
_ALTERNATING = ("GptOssForCausalLM",)


@dataclass(frozen=True)
class Piece:
    """A published tensor of this shape, and the view of our tensor `target` that is laid out like it."""

    name: str
    target: str
    shape: tuple[int, ...]
    view: View


@dataclass(frozen=True)
class Made:
    """A tensor here that is computed from whole published ones, and is no view of them."""

    target: str
    names: tuple[str, ...]
    make: Make


@dataclass(frozen=True)
class Published:
    """What a model is published as: pieces by name, and what is left to be computed."""

    pieces: Mapping[str, Piece]
    made: tuple[Made, ...]


def published(
    model: Decoder, architecture: str, held: Collection[str] = (), *, packed: bool = False
) -> Published:
    """Every tensor of the model as it is published; with `packed` experts are as MXFP4 stores them.

    `held` are the names of a checkpoint: one that has the experts of a layer in one tensor is read so.
    """
    state = model.state_dict()
    pieces: dict[str, Piece] = {}
    made: list[Made] = []
    for target, recipe in _recipes(model, architecture).items():
        names = tuple(_hub_name(name, architecture) for name in recipe.names)
        if architecture in _ALTERNATING and target.endswith((GATE_UP, DOWN, GATE_UP_BIAS)):
            found = [_alternating(names[0], target, state[target], packed)]
        elif recipe.make is not stacked:
            made.append(Made(target, names, recipe.make))
            continue
        elif target.endswith((GATE_UP, DOWN)) and names[0] not in held:
            found = list(_single_experts(names[0], architecture, target, state[target]))
        else:
            found = list(
                _rows(
                    names,
                    target,
                    state[target],
                    _row_counts(model, target, len(names), state[target].shape[0]),
                )
            )
        pieces |= {piece.name: piece for piece in found}
    return Published(pieces, tuple(made))


def whole(name: str, target: str, shape: tuple[int, ...]) -> Piece:
    """A published tensor that is not a part of ours, to be read as it is."""
    return Piece(name, target, shape, _as_it_is)


def copies(model: Decoder) -> dict[str, str]:
    """Published tensors that repeat another one of the model, with the name of that one."""
    head = "model.embed_tokens.weight" if model.blueprint.tied_embeddings else "lm_head.weight"
    repeated = {"lm_head.weight": head} if model.blueprint.tied_embeddings else {}
    for depth in range(len(model.mtp)):
        prefix = mtp_prefix(model, depth)
        repeated[f"{prefix}.embed_tokens.weight"] = "model.embed_tokens.weight"
        repeated[f"{prefix}.shared_head.head.weight"] = head
    return repeated


def mtp_prefix(model: Decoder, depth: int) -> str:
    """The published name of a multi-token prediction module: the layer after the last one."""
    return f"model.layers.{len(model.layers) + depth}"


def _recipes(model: Decoder, architecture: str) -> Recipes:
    recipes = main_recipes(model, names_of(architecture))
    for depth, module in enumerate(model.mtp):
        prefix = mtp_prefix(model, depth)
        for name, recipe in _mtp_recipes(module, architecture, prefix).items():
            recipes[f"mtp.{depth}.{name}"] = recipe
    return recipes


def _mtp_recipes(module: MTP, architecture: str, prefix: str) -> Recipes:
    recipes = {
        f"{name}.weight": Recipe((f"{prefix}.{name}.weight",)) for name in ("enorm", "hnorm", "eh_proj")
    }
    recipes["opening_norm.weight"] = Recipe((f"{prefix}.input_layernorm.weight",))
    own = layer_recipes(module.layer, names_of(architecture), prefix, f"{prefix}.shared_head.norm")
    return recipes | {f"layer.{name}": recipe for name, recipe in own}


def _hub_name(name: str, architecture: str) -> str:
    """The name in a file of what has this name in memory."""
    mixture, *_ = _EXPERT_NAMES.get(architecture, _USUAL_NAMES)
    return name.replace(".mlp.", f".{mixture}.")


def _rows(names: tuple[str, ...], target: str, tensor: Tensor, counts: tuple[int, ...]) -> Iterator[Piece]:
    first = 0
    for name, count in zip(names, counts, strict=True):
        yield Piece(name, target, (count, *tensor.shape[1:]), partial(_row_range, first=first, count=count))
        first += count


def _row_range(tensor: Tensor, first: int, count: int) -> Tensor:
    return tensor[first : first + count]


def _row_counts(model: Decoder, target: str, n_parts: int, n_rows: int) -> tuple[int, ...]:
    """Rows of each published matrix in a stacked one: those of its layer, else equal ones."""
    path = target.rsplit(".", 1)[0]
    widths: tuple[int, ...] | None = getattr(model.get_submodule(path), "widths", None)
    if path.endswith("q_kv_a_proj") and n_parts == 2:
        first, *others = model.get_submodule(path.rsplit(".", 1)[0]).latent_widths
        widths = (first, sum(others))
    if widths is not None and len(widths) == n_parts:
        return widths
    assert n_rows % n_parts == 0, f"{target} must be made of equal parts"
    return (n_rows // n_parts,) * n_parts


def _single_experts(name: str, architecture: str, target: str, tensor_EXX: Tensor) -> Iterator[Piece]:
    """One matrix an expert; gate and up, which are one tensor here, are two there."""
    prefix, leaf = name.rsplit(".", 1)
    _, gate, up, down = _EXPERT_NAMES.get(architecture, _USUAL_NAMES)
    parts = {"gate_up_proj": (gate, up), "down_proj": (down,)}.get(leaf, (leaf,))
    n_experts, n_rows, n_columns = tensor_EXX.shape
    count = n_rows // len(parts)
    for expert in range(n_experts):
        for number, part in enumerate(parts):
            view = partial(_expert_rows, expert=expert, first=number * count, count=count)
            yield Piece(f"{prefix}.{expert}.{part}.weight", target, (count, n_columns), view)


def _expert_rows(tensor_EXX: Tensor, expert: int, first: int, count: int) -> Tensor:
    return tensor_EXX[expert, first : first + count]


def _alternating(name: str, target: str, tensor: Tensor, packed: bool) -> Piece:
    """All experts in one tensor in which gate and up alternate; inputs before outputs unless packed."""
    if target.endswith(GATE_UP_BIAS):
        return Piece(name, target, tuple(tensor.shape), _alternate)
    n_experts, n_rows, n_columns = tensor.shape
    shape = (n_experts, n_rows, n_columns) if packed else (n_experts, n_columns, n_rows)
    if target.endswith(DOWN):
        return Piece(name, target, shape, _as_it_is if packed else _inputs_first)
    return Piece(name, target, shape, _alternate if packed else _alternate_inputs_first)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _inputs_first(tensor_EXX: Tensor) -> Tensor:
    return tensor_EXX.transpose(1, 2)


def _alternate(tensor_EX: Tensor) -> Tensor:
    """Rows [E, gate and up, ..] as [E, F, gate or up, ..]."""
    return tensor_EX.unflatten(1, (2, -1)).transpose(1, 2)


def _alternate_inputs_first(tensor_EXD: Tensor) -> Tensor:
    """Rows [E, gate and up, D] as [E, D, F, gate or up]."""
    return tensor_EXD.unflatten(1, (2, -1)).permute(0, 3, 2, 1)
