"""Trained proxies as safetensors files, with the seed, the recipe and the corpus they came from."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save

from hardware_specs.records.errors import InputError, Problem
from reference_impl.decoder import Decoder, build_model
from reference_impl.proxy.drafters import MTP_CONFIG
from reference_impl.proxy.training import CONFIG, Trained

IDENTITY = "proxy"
MTP = "mtp."


def checkpoint_bytes(trained: Trained) -> bytes:
    """The file's content: weights, router biases and what identifies them; equal for equal proxies."""
    # the library writes several entries of metadata in no fixed order, so there is one
    identity = json.dumps(trained.identity, sort_keys=True)
    return bytes(save(dict(trained.model.state_dict()), {IDENTITY: identity}))


def load_checkpoint(path: Path, mtp: bool = False) -> tuple[Decoder, dict[str, str]]:
    """The model of a checkpoint, and what identifies it.

    The multi-token prediction module comes along where it is asked for and the file holds one.

    Raises:
        InputError: the file is not there, or does not hold the weights of the proxy.
    """
    if not path.is_file():
        raise InputError(Problem("checkpoint must be a file that exists", str(path)))
    state = load_file(path)
    main = {name: tensor for name, tensor in state.items() if not name.startswith(MTP)}
    kept, config = (state, MTP_CONFIG) if mtp and len(main) < len(state) else (main, CONFIG)
    model = build_model(config.blueprint)
    if kept.keys() != model.state_dict().keys():
        raise InputError(Problem("checkpoint must hold the weights of the proxy", str(path)))
    model.load_state_dict(kept)
    model.requires_grad_(False)
    with safe_open(path, "pt") as file:
        return model, json.loads(file.metadata()[IDENTITY])
