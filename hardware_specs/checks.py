"""What a forecast will assume of a hardware file, and every reference and figure in it that is wrong."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel

from hardware_specs.forms import DeviceForm, DramForm, Form, MemoryForm
from hardware_specs.host_forms import ExpanderForm, HostForm
from hardware_specs.library import PARTS, REFERENCES, checked, library, unknown_key, yaml_files
from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.quantities import Kind, Quantity
from hardware_specs.records.yaml_reader import Document, read_document, validate_document
from hardware_specs.server_forms import NodeForm

#: entries of a form whose absence is no gap
_MAY_LACK = frozenset(
    {
        "engine",
        "memory_side_cache",
        "conversion",
        "array",
        "peak",
        "decompression",
        "compression",
        "family",
        "unit_count",
        "pin_rate",
    }
    | {"index_bits_per_nonzero", "index_bits_per_element"}
)


def check_file(path: Path) -> list[str]:
    """What a forecast that uses this hardware file will assume, one line a figure.

    Raises:
        InputError: with every problem of the file; where its form is right, with every reference that is not.
    """
    document = read_document(path)
    form = checked(_form_type(document), document, path.stem)
    problems = [*_reference_problems(form, path, document), *_dram_problems(form, path, document)]
    if problems:
        raise InputError(*problems)
    alone = isinstance(form, DeviceForm) and form.key not in library().keys("device")
    return [*assumptions_of(form), *(_surroundings() if alone else ())]


def assumptions_of(form: BaseModel, path: str = "") -> Iterator[str]:
    """One line for every figure of a form that is assumed, and every optional one that is not given."""
    for name, field in type(form).model_fields.items():
        value, is_figure = getattr(form, name), field.annotation != (str | None)
        if is_figure and not (value is None and name in _MAY_LACK):
            yield from _assumptions(f"{path}{name}", value)


def _surroundings() -> Iterator[str]:
    """What is assumed around a device whose file is a system by itself."""
    for file in yaml_files(files("hardware_specs") / "defaults"):
        document = read_document(file, f"defaults/{file.name}")
        form = validate_document(_form_type(document), document)
        yield f"{form.part}: not given; {form.name}"
        yield from assumptions_of(form, f"{form.part}.")
        if isinstance(form, NodeForm):
            links = ("scale_up_link", "host_link", "nic")
            yield from (f"node.{field} = {getattr(form, field)} ({document.file})" for field in links)


def _assumptions(path: str, value: object) -> Iterator[str]:
    if value is None:
        yield f"{path}: not given"
    elif isinstance(value, BaseModel):
        yield from assumptions_of(value, f"{path}.")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _assumptions(f"{path}.{key}", item)
    elif isinstance(value, Quantity) and value.kind is Kind.ASSUMED:
        why = "; ".join(part for part in (value.source, value.note) if part)
        yield f"{path} = {value.written()} ({why})"


def _form_type(document: Document) -> type[Form]:
    part = document.data.get("part") if isinstance(document.data, dict) else None
    if not isinstance(part, str) or part not in PARTS:
        given = "" if part is None else repr(part)
        problem = Problem(f"must be one of {', '.join(PARTS)}", given, suggestion=nearest(str(part), PARTS))
        raise InputError(document.place(("part",), problem))
    return PARTS[part][1]


def _reference_problems(form: Form, path: Path, document: Document) -> Iterator[Problem]:
    beside = {file.stem for file in path.parent.glob("*.yaml")}
    for field, part in REFERENCES.items():
        key, known = getattr(form, field, None), library().keys(part)
        if isinstance(key, str) and key not in known and key not in beside:
            yield document.place((field,), unknown_key(part, key, known))


def _dram_problems(form: Form, path: Path, document: Document) -> Iterator[Problem]:
    """Where a file contradicts its DRAM family, of the package or in the file beside it."""
    built, at = (form.memory, ("memory",)) if isinstance(form, DeviceForm) else (form, ())
    if not isinstance(built, MemoryForm | HostForm | ExpanderForm) or built.family is None:
        return
    beside = path.with_name(f"{built.family}.yaml")
    if built.family in library().keys("dram"):
        dram = library().dram(built.family)
    elif beside.is_file():
        dram = checked(DramForm, read_document(beside), beside.stem).build()
    else:
        if at:  # a reference inside a device's file is none of the form's own
            yield document.place((*at, "family"), unknown_key("dram", built.family, library().keys("dram")))
        return
    for problem in built.contradictions(dram):
        yield document.place((*at, problem.path), problem)
