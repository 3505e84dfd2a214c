"""A model as a checkpoint of the hub's form: config, shards of bounded size, and their index."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.yaml_reader import Plain
from model_graphs.architectures import ModelConfig
from reference_impl.checkpoints.folder import INDEX
from reference_impl.checkpoints.forms import BLOCK, to_fp8_block, to_mxfp4
from reference_impl.checkpoints.pieces import Piece, copies, published
from reference_impl.decoder import Decoder
from reference_impl.layers import Layer
from reference_impl.parts.sparse_attention import IndexWeights

Tensors = Iterator[tuple[str, Tensor]]

_QUANTISED_COMPONENTS = ("attention", "indexer", "mlp", "shared_expert", "moe")
_ENCODERS: Mapping[str, Callable[[str, Tensor], dict[str, Tensor]]] = {
    "fp8_block": to_fp8_block,
    "mxfp4": to_mxfp4,
}
_STATED: Mapping[str, Mapping[str, Plain]] = {
    "fp8_block": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [BLOCK, BLOCK],
    },
    "mxfp4": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    },
}


@torch.no_grad()
def write_checkpoint(
    model: Decoder,
    config: ModelConfig,
    folder: Path,
    max_shard_bytes: int = 5 * 2**30,
    form: str = "plain",
) -> list[str]:
    """Names of the files written: `config.json`, shards of at most `max_shard_bytes` of tensors, the index.

    `form` says how products of attention and of feed-forward parts are stored: `plain`, `fp8_block`, or
    `mxfp4` for experts in one tensor. A tensor larger than a shard has one of its own.

    Raises:
        InputError: checkpoints of the architecture have no such form.
    """
    layout = published(model, config.names[0], packed=form == "mxfp4")
    if layout.made:
        requirement = f"checkpoints of {config.names[0]} can be read and not written: this is no view of it"
        raise InputError(
            *(Problem(requirement, ", ".join(one.names), path=one.target) for one in layout.made)
        )
    pieces = layout.pieces
    _check_form(form, config.names[0], any(_is_packed(piece) for piece in pieces.values()))
    files = _write_shards(_tensors(model, pieces, form), folder, max_shard_bytes)
    weight_map = {name: file for file, sizes in files.items() for name in sizes}
    total_bytes = sum(n_bytes for sizes in files.values() for n_bytes in sizes.values())
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(folder / INDEX, index)
    _write_json(folder / "config.json", config_json(config, form))
    return ["config.json", *files, INDEX]


def _check_form(form: str, architecture: str, is_packed: bool) -> None:
    """Refuse a form that checkpoints of the architecture do not have."""
    forms = ("plain", "mxfp4") if is_packed else ("plain", "fp8_block")
    if form not in forms:
        requirement = f"must be one of {', '.join(forms)} for {architecture}"
        raise InputError(Problem(requirement, repr(form), path="form", suggestion=nearest(form, forms)))


def config_json(config: ModelConfig, form: str = "plain") -> dict[str, Plain]:
    """The `config.json` of a model whose weights are stored in a form."""
    figures = config.model_dump(mode="json")
    scaling = figures.get("rope_scaling")
    if scaling is not None and "rope_type" not in scaling:
        figures["rope_scaling"] = {"type": "yarn", **scaling}  # DeepSeek's is always of that kind
    figures.setdefault("num_key_value_heads", config.num_attention_heads)  # of latent attention: all of them
    stated = {"quantization_config": dict(_STATED[form])} if form in _STATED else {}
    return {"architectures": [config.names[0]], **config.fixed, **figures, **stated}


def _write_json(path: Path, data: Mapping[str, object]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _write_shards(tensors: Tensors, folder: Path, limit: int) -> dict[str, dict[str, int]]:
    """Bytes of every tensor written, by file; file names say how many there are, known at the end."""
    written: list[tuple[Path, dict[str, int]]] = []
    shard: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if shard and sum(held.nbytes for held in shard.values()) + tensor.nbytes > limit:
            written.append(_write_shard(shard, folder, len(written) + 1))
            shard = {}
        shard[name] = tensor
    written.append(_write_shard(shard, folder, len(written) + 1))
    return {
        path.rename(folder / f"{path.stem}-of-{len(written):05}.safetensors").name: sizes
        for path, sizes in written
    }


def _write_shard(shard: Mapping[str, Tensor], folder: Path, number: int) -> tuple[Path, dict[str, int]]:
    path = folder / f"model-{number:05}.part"
    save_file(dict(shard), path, metadata={"format": "pt"})
    return path, {name: tensor.nbytes for name, tensor in shard.items()}


def _tensors(model: Decoder, pieces: Mapping[str, Piece], form: str) -> Tensors:
    """Every tensor of the checkpoint by its published name, one piece at a time."""
    state = model.state_dict()
    for piece in pieces.values():
        values = piece.view(state[piece.target]).reshape(piece.shape)
        values = values.clone(memory_format=torch.contiguous_format)
        stored = form_of_piece(model, piece, form)
        if stored == "plain":
            yield piece.name, values
        else:
            yield from _ENCODERS[stored](piece.name, values).items()
    for copy, origin in copies(model).items():
        if copy != "lm_head.weight":  # of a model whose head is its embedding; the hub leaves it out
            piece = pieces[origin]
            yield copy, piece.view(state[piece.target]).clone()


def form_of_piece(model: Decoder, piece: Piece, form: str) -> str:
    """The form of one piece: products in the wanted one, everything else as it is."""
    module = model.get_submodule(piece.target.rsplit(".", 1)[0])
    assert isinstance(module, Layer)
    stays = isinstance(module, IndexWeights) or piece.target.endswith("bias")
    is_product = module.component in _QUANTISED_COMPONENTS and not stays
    if form == "fp8_block" and is_product and len(piece.shape) == 2:
        return form
    return form if _is_packed(piece) and form == "mxfp4" else "plain"


def _is_packed(piece: Piece) -> bool:
    """Whether the piece holds the matrices of all experts of a layer."""
    return len(piece.shape) == 3
