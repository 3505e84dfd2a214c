"""Weights from a state dict with published names, held in memory; files are read elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor, nn

from hardware_specs.records.errors import InputError, Problem, nearest
from reference_impl.decoder import MTP, Decoder, DecoderLayer
from reference_impl.published_names import USUAL, Names, Recipe

State = Mapping[str, Tensor]
Recipes = dict[str, Recipe]  # by the name here


def load_main_model(model: Decoder, state: State, names: Names = USUAL) -> None:
    """Fill the main model from the state of its causal language model in `transformers`.

    Raises:
        InputError: a tensor is missing or has another shape; all of them are named.
    """
    fill(model, main_recipes(model, names), state)


def main_recipes(model: Decoder, names: Names) -> Recipes:
    """What makes each tensor of the main model, in the names of its causal language model."""
    recipes = {
        "embed_tokens.weight": Recipe(("model.embed_tokens.weight",)),
        "opening_norm.weight": Recipe(("model.layers.0.input_layernorm.weight",)),
    }
    if not model.blueprint.tied_embeddings:
        recipes["lm_head.weight"] = Recipe(("lm_head.weight",))
    last = len(model.layers) - 1
    for i, layer in enumerate(model.layers):
        closing = "model.norm" if i == last else f"model.layers.{i + 1}.input_layernorm"
        for name, recipe in layer_recipes(layer, names, f"model.layers.{i}", closing):
            recipes[f"layers.{i}.{name}"] = recipe
    return recipes


def load_mtp(module: MTP, state: State, prefix: str = "layers.0", names: Names = USUAL) -> None:
    """Fill a multi-token prediction module from the state of `transformers`' `MtpModel`.

    Raises:
        InputError: a tensor is missing or has another shape; all of them are named.
    """
    own = {f"{name}.weight": Recipe((f"{prefix}.{name}.weight",)) for name in ("enorm", "hnorm", "eh_proj")}
    own["opening_norm.weight"] = Recipe((f"{prefix}.mtp_block.input_layernorm.weight",))
    for name, recipe in layer_recipes(module.layer, names, f"{prefix}.mtp_block", f"{prefix}.post_norm"):
        own[f"layer.{name}"] = recipe
    fill(module, own, state)


def layer_recipes(
    layer: DecoderLayer, names: Names, prefix: str, closing: str
) -> Iterator[tuple[str, Recipe]]:
    """What makes each tensor of a layer; `prefix` is its name there, `closing` the norm after it."""
    for name in layer.state_dict():
        if name.startswith("closing_norm."):
            yield name, Recipe((name.replace("closing_norm", closing),))
        else:
            inside = names.recipe(name)
            yield name, replace(inside, names=tuple(f"{prefix}.{own}" for own in inside.names))


def fill(module: nn.Module, recipes: Recipes, state: State) -> None:
    """Make the module's tensors by their recipes.

    Raises:
        InputError: a tensor is missing or has another shape; all of them are named.
    """
    targets = module.state_dict()
    missing = [name for recipe in recipes.values() for name in recipe.names if name not in state]
    if missing:
        raise InputError(
            *(Problem("must be in the state dict", path=n, suggestion=nearest(n, state)) for n in missing)
        )
    made = {target: recipe.make([state[name] for name in recipe.names]) for target, recipe in recipes.items()}
    wrong = [name for name, tensor in made.items() if tensor.shape != targets[name].shape]
    if wrong:
        raise InputError(*(_shape_problem(name, made[name], targets[name]) for name in wrong))
    for name, tensor in made.items():
        targets[name].copy_(tensor)


def _shape_problem(name: str, given: Tensor, wanted: Tensor) -> Problem:
    return Problem(f"must have the shape {list(wanted.shape)}", str(list(given.shape)), path=name)
