"""A checkpoint held against the model that its config describes: names, shapes, forms; no values yet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.architectures import ModelConfig
from model_graphs.config_json import read_config_json
from reference_impl.checkpoints.folder import Folder, read_folder
from reference_impl.checkpoints.forms import Form, form_of
from reference_impl.checkpoints.pieces import Made, Piece, copies, published, whole
from reference_impl.decoder import Decoder, build_model

#: tensors that a plain model has no use for: tables that are computed, scales of activations and of the cache
_UNUSED = (".rotary_emb.inv_freq", ".input_scale", ".k_scale", ".v_scale", ".q_scale")
#: what is behind the name of a tensor where it is stored in several
_PARTS = ("", "_scale_inv", "_scale", "_blocks", "_scales")
_SHOWN = 50


@dataclass(frozen=True)
class Inspection:
    """A checkpoint without a fault: the model on `meta`, its pieces, and the form of each by its name."""

    architecture: str
    config: ModelConfig
    folder: Folder
    model: Decoder
    pieces: Mapping[str, Piece]
    forms: Mapping[str, Form]
    made: tuple[Made, ...]
    copies: Mapping[str, str]


def inspect_checkpoint(path: Path) -> Inspection:
    """The checkpoint in a folder with a `config.json`.

    Raises:
        InputError: with every problem of config, index, shards, names, shapes and dtypes; of many problems
            of one kind the first fifty.
    """
    folder = read_folder(path)
    try:
        architecture, config = read_config_json(path / "config.json")
        model = build_model(config.blueprint, torch.bfloat16, "meta")
        held = folder.promised | folder.entries.keys()
        packed = any(name.endswith("_blocks") for name in held)
        layout = published(model, architecture, held, packed=packed)
    except InputError as error:
        raise InputError(*_limited(folder.problems), *error.problems) from error
    pieces = {**layout.pieces, **_sources(layout.made, folder)}
    judged = _forms(pieces, folder)
    repeated = copies(model)
    wrong = [form for form in judged.values() if isinstance(form, Problem)]
    problems = [*folder.problems, *wrong, *_copy_shapes(folder, pieces, repeated)]
    problems += _made_shapes(layout.made, pieces, model, folder)
    if folder.entries:
        problems += _names(folder, pieces, judged, repeated)
    if problems:
        raise InputError(*_limited(problems))
    forms = {name: form for name, form in judged.items() if isinstance(form, Form)}
    present = {copy: origin for copy, origin in repeated.items() if copy in folder.entries}
    return Inspection(architecture, config, folder, model, pieces, forms, layout.made, present)


def _sources(made: Sequence[Made], folder: Folder) -> dict[str, Piece]:
    """The published tensors that others are computed from, each of the shape that it has."""
    held = folder.entries
    shapes = {name: (one, held[name].shape if name in held else ()) for one in made for name in one.names}
    return {name: whole(name, one.target, shape) for name, (one, shape) in shapes.items()}


def _made_shapes(
    made: Sequence[Made], pieces: Mapping[str, Piece], model: Decoder, folder: Folder
) -> Iterator[Problem]:
    """Tensors that would be of another shape than the model's if they were made of those of the file."""
    state = model.state_dict()
    for one in made:
        if not all(name in folder.entries for name in one.names):
            continue
        given = [torch.empty(pieces[name].shape, device="meta") for name in one.names]
        try:
            shape = tuple(one.make(given).shape)
        except (RuntimeError, IndexError):
            shape = ()
        if shape != tuple(state[one.target].shape):
            requirement = f"must make a tensor of shape {list(state[one.target].shape)}"
            shapes = ", ".join(str(list(tensor.shape)) for tensor in given)
            yield Problem(requirement, shapes, folder.entries[one.names[0]].file, path=one.names[0])


def _forms(pieces: Mapping[str, Piece], folder: Folder) -> dict[str, Form | Problem]:
    held = folder.entries
    found = {name: piece for name, piece in pieces.items() if name in held or f"{name}_blocks" in held}
    return {name: form_of(piece, held) for name, piece in found.items()}


def _copy_shapes(
    folder: Folder, pieces: Mapping[str, Piece], repeated: Mapping[str, str]
) -> Iterator[Problem]:
    for copy, origin in repeated.items():
        if copy in folder.entries and folder.entries[copy].shape != pieces[origin].shape:
            requirement = f"must have the shape {list(pieces[origin].shape)} of {origin}, which it repeats"
            entry = folder.entries[copy]
            yield Problem(requirement, str(list(entry.shape)), entry.file, path=copy)


def _names(
    folder: Folder,
    pieces: Mapping[str, Piece],
    judged: Mapping[str, Form | Problem],
    repeated: Mapping[str, str],
) -> Iterator[Problem]:
    """Tensors that the model lacks, and those that it does not know."""
    used = {name for form in judged.values() if isinstance(form, Form) for name in form.tensors}
    doubtful = [name for name, form in judged.items() if isinstance(form, Problem)]
    known = used | repeated.keys() | {f"{name}{part}" for name in doubtful for part in _PARTS}
    unknown = [name for name in folder.entries if name not in known and not name.endswith(_UNUSED)]
    for name in pieces:
        if name not in judged and name not in folder.promised:
            yield Problem("must be in the checkpoint", path=name, suggestion=_similar(name, unknown))
    for name in unknown:
        entry = folder.entries[name]
        requirement = "is no tensor of the model that config.json describes"
        yield Problem(requirement, f"{entry.dtype} of shape {list(entry.shape)}", entry.file, path=name)


def _similar(name: str, unknown: Sequence[str]) -> str:
    """The nearest name among few candidates; a search among many takes minutes."""
    return nearest(name, unknown) if len(unknown) <= _SHOWN else ""


def _limited(problems: Sequence[Problem]) -> Iterator[Problem]:
    """The problems; of those with the same words the first fifty and how many more there are."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(" ".join(problem.requirement.split()[:6]), []).append(problem)
    for found in kinds.values():
        yield from islice(found, _SHOWN)
        if len(found) > _SHOWN:
            yield Problem(f"and {len(found) - _SHOWN:,} more problems like the last one")
