"""Trained proxies as safetensors files, with the seed, the recipe and the corpus they came from."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save

from hardware_specs.records.errors import InputError, Problem
from reference_impl.decoder import Decoder, build_model
from reference_impl.proxy.training import CONFIG, Trained

IDENTITY = "proxy"


def checkpoint_bytes(trained: Trained) -> bytes:
    """The file's content: weights, router biases and what identifies them; equal for equal proxies."""
    # the library writes several entries of metadata in no fixed order, so there is one
    identity = json.dumps(trained.identity, sort_keys=True)
    return bytes(save(dict(trained.model.state_dict()), {IDENTITY: identity}))


def load_checkpoint(path: Path) -> tuple[Decoder, dict[str, str]]:
    """The model of a checkpoint, and what identifies it.

    Raises:
        InputError: the file is not there, or does not hold the weights of the proxy.
    """
    if not path.is_file():
        raise InputError(Problem("checkpoint must be a file that exists", str(path)))
    model = build_model(CONFIG.blueprint)
    state = load_file(path)
    if state.keys() != model.state_dict().keys():
        raise InputError(Problem("checkpoint must hold the weights of the proxy", str(path)))
    for name, tensor in model.state_dict().items():
        tensor.copy_(state[name])
    with safe_open(path, "pt") as file:
        return model, json.loads(file.metadata()[IDENTITY])
