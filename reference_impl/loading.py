"""Weights from a state dict with published names, held in memory; files are read elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from hardware_specs.records.errors import InputError, Problem, nearest
from reference_impl.decoder import MTP, AnyLayer, Decoder
from reference_impl.encoder import Encoder
from reference_impl.published_names import USUAL, Names, Recipe, by_part

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
    recipes = dict(_outer_recipes(model, names))
    last = len(model.layers) - 1
    for i, layer in enumerate(model.layers):
        closing = names.final if i == last else names.before_layer(i + 1)
        for name, recipe in layer_recipes(layer, names, names.layer.format(i), closing):
            recipes[f"layers.{i}.{name}"] = recipe
    return recipes


def _outer_recipes(model: Decoder, names: Names) -> Iterator[tuple[str, Recipe]]:
    """Embeddings, the norm before the first layer, and the head where it is a weight of its own."""
    for name in model.state_dict():
        module, leaf = name.rsplit(".", 1)
        if module == "opening_norm":
            yield name, Recipe((f"{names.before_layer(0)}.{leaf}",), names.norm)
        elif module in names.outside and not (module == "lm_head" and model.blueprint.tied_embeddings):
            yield name, Recipe((f"{names.outside[module]}.{leaf}",))


def load_encoder(encoder: Encoder, state: State, names: Names) -> None:
    """Fill an encoder from the state of its model in `transformers`.

    Raises:
        InputError: a tensor is missing or has another shape; all of them are named.
    """
    fill(encoder, {name: _encoder_recipe(encoder, name, names) for name in encoder.state_dict()}, state)


def _encoder_recipe(encoder: Encoder, name: str, names: Names) -> Recipe:
    """What makes a tensor; the norm that closes a layer may be the one that the next opens with."""
    if name.startswith("layers."):
        number, own = name.removeprefix("layers.").split(".", 1)
        return _in_layer(int(number), len(encoder.layers), own, names)
    if name in names.tensors:
        return names.tensors[name]
    module, leaf = name.rsplit(".", 1)
    outer = names.before_layer(0) if module == "opening_norm" else names.outside[module]
    return Recipe((f"{outer}.{leaf}",))


def _in_layer(index: int, n_layers: int, name: str, names: Names) -> Recipe:
    module, leaf = name.rsplit(".", 1)
    if module == "closing_norm" and module not in names.modules:
        closing = names.final if index == n_layers - 1 else names.before_layer(index + 1)
        return Recipe((f"{closing}.{leaf}",))
    inside = names.recipe(name)
    return replace(inside, names=tuple(f"{names.layer.format(index)}.{own}" for own in inside.names))


def load_mtp(module: MTP, state: State, prefix: str = "layers.0", names: Names = USUAL) -> None:
    """Fill a multi-token prediction module from the state of `transformers`' `MtpModel`.

    Raises:
        InputError: a tensor is missing or has another shape; all of them are named.
    """
    own = {f"{name}.weight": Recipe((f"{prefix}.{name}.weight",), names.norm) for name in ("enorm", "hnorm")}
    own["eh_proj.weight"] = Recipe((f"{prefix}.eh_proj.weight",))
    own["opening_norm.weight"] = Recipe((f"{prefix}.mtp_block.{names.opening}.weight",), names.norm)
    for name, recipe in layer_recipes(module.layer, names, f"{prefix}.mtp_block", f"{prefix}.post_norm"):
        own[f"layer.{name}"] = recipe
    fill(module, own, state)


def layer_recipes(layer: AnyLayer, names: Names, prefix: str, closing: str) -> Iterator[tuple[str, Recipe]]:
    """What makes each tensor of a layer; `prefix` is its name there, `closing` the norm after it."""
    for name in layer.state_dict():
        if name.startswith("closing_norm."):
            yield name, Recipe((name.replace("closing_norm", closing),), names.norm)
        else:
            inside = names.recipe(name)
            if names.head_by_head and name.startswith("self_attn.qkv_proj."):
                attention = layer.get_submodule("self_attn.qkv_proj")
                inside = replace(inside, make=partial(by_part, heads=attention.heads))
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
