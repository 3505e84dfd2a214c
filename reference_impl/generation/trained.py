"""A trained model from a folder: `config.json` beside `model.safetensors`, tensors named as modules are."""

from pathlib import Path

import torch

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.configs import read_config_json
from reference_impl.decoder import Decoder, build_model


def load_trained(folder: Path, dtype: torch.dtype) -> Decoder:
    """The model with its parameters in a dtype.

    Raises:
        InputError: a file is missing, or a tensor is missing, unknown or of another shape; all are named.
    """
    from safetensors.torch import load_file

    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise InputError(Problem("must be a file of weights", str(weights), path="checkpoint"))
    _, config = read_config_json(folder / "config.json")
    model = build_model(config.blueprint, dtype)
    given, wanted = load_file(weights), model.state_dict()
    problems = [
        Problem("must be in the checkpoint", path=name, suggestion=nearest(name, given))
        for name in wanted.keys() - given.keys()
    ]
    problems += [Problem("is no tensor of this model", path=name) for name in given.keys() - wanted.keys()]
    problems += [
        Problem(f"must have the shape {list(wanted[name].shape)}", str(list(given[name].shape)), path=name)
        for name in wanted.keys() & given.keys()
        if wanted[name].shape != given[name].shape
    ]
    if problems:
        raise InputError(*sorted(problems, key=lambda problem: problem.path))
    for name, tensor in given.items():
        wanted[name].copy_(tensor)
    return model
