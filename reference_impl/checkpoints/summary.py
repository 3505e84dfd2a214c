"""What a checkpoint holds, by component and by form, and whether that is what its config says."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem
from model_graphs.config_json import read_config_file
from model_graphs.quantization import Quantization
from reference_impl.checkpoints.inspection import Inspection, inspect_checkpoint
from reference_impl.checkpoints.pieces import Piece
from reference_impl.layers import Layer

#: forms in which a type of `model_graphs.storage` may be stored
_FORMS_OF: Mapping[str, tuple[str, ...]] = {"fp8": ("fp8",), "fp8_block": ("fp8_block",), "mxfp4": ("mxfp4",)}


@dataclass
class Part:
    """Published tensors of one component in one form and dtype."""

    component: str
    form: str
    dtype: str
    tensors: int = 0
    parameters: int = 0
    n_bytes: int = 0


@dataclass(frozen=True)
class CheckpointSummary:
    """A checkpoint that is right: its parts, and the parameters of the main model and of MTP modules."""

    architecture: str
    files: int
    n_bytes: int
    parameters: int
    mtp_parameters: int
    copied_bytes: int
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = field(default_factory=tuple)


def summarise_checkpoint(path: Path) -> CheckpointSummary:
    """What the checkpoint in a folder holds.

    Raises:
        InputError: with every problem of the checkpoint, or where components are stored in another way than
            the `quantization_config` says.
    """
    inspection = inspect_checkpoint(path)
    parts = _parts(inspection)
    stated = read_config_file(path / "config.json").quantization
    problems = list(_contradictions(parts, stated, str(path / "config.json")))
    if problems:
        raise InputError(*problems)
    entries = inspection.folder.entries
    own = [piece for piece in inspection.pieces.values() if not _is_buffer(piece)]
    return CheckpointSummary(
        architecture=inspection.architecture,
        files=len(inspection.folder.files),
        n_bytes=inspection.folder.n_bytes,
        parameters=sum(prod(piece.shape) for piece in own if not piece.target.startswith("mtp.")),
        mtp_parameters=sum(prod(piece.shape) for piece in own if piece.target.startswith("mtp.")),
        copied_bytes=sum(entries[name].n_bytes for name in inspection.copies),
        parts=tuple(sorted(parts, key=lambda part: (part.component, part.form, part.dtype))),
        notes=stated.notes,
    )


def _parts(inspection: Inspection) -> list[Part]:
    found: dict[tuple[str, str, str], Part] = {}
    for name, form in inspection.forms.items():
        piece = inspection.pieces[name]
        component = _component(inspection, piece)
        entries = [inspection.folder.entries[tensor] for tensor in form.tensors]
        key = (component, form.name, entries[0].dtype)
        part = found.setdefault(key, Part(*key))
        part.tensors += 1
        part.parameters += prod(piece.shape)
        part.n_bytes += sum(entry.n_bytes for entry in entries)
    return list(found.values())


def _component(inspection: Inspection, piece: Piece) -> str:
    """The component of the layer that holds a piece; one-dimensional tensors are none of its products."""
    module = inspection.model.get_submodule(piece.target.rsplit(".", 1)[0])
    assert isinstance(module, Layer)
    product = len(piece.shape) > 1 and "bias" not in piece.target
    return module.component if product or module.component == "norm" else f"{module.component} (vectors)"


def _is_buffer(piece: Piece) -> bool:
    """The router's balancing bias, which is not counted as a parameter."""
    return piece.target.endswith("e_score_correction_bias")


def _contradictions(parts: list[Part], stated: Quantization, file: str) -> Iterator[Problem]:
    """Components that are stored otherwise than the config says."""
    for component in ("attention", "mlp", "shared_expert", "moe"):
        found = {part.form for part in parts if part.component == component}
        quantised = stated.storage is not None and component in stated.storage.components
        said = _FORMS_OF.get(stated.storage.dtype, ()) if stated.storage and quantised else ("plain",)
        if found and not found & set(said):
            requirement = f"must be how {component} is stored: {', '.join(sorted(found))}"
            given = stated.storage.dtype if stated.storage and quantised else "16 bits"
            yield Problem(requirement, given, file, path="quantization_config")
