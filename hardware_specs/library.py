"""The hardware library: finds the files of parts, reads them, and puts devices, nodes and clusters together.

The package's own files are always there; directories of the user may add parts and never replace one. A
file is known by its `part` and its `key`, which is also its name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from hardware_specs.forms import (
    ClusterForm,
    DeviceForm,
    Form,
    InlineMemory,
    LinkForm,
    MemoryForm,
    NodeForm,
    PriceListForm,
)
from hardware_specs.parts import DeviceSpec, LinkSpec, MemorySpec, NodeSpec, PriceQuote, SystemSpec
from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.hashing import content_hash
from hardware_specs.records.quantities import Kind, Quantity
from hardware_specs.records.yaml_reader import Document, read_document, validate_document

FormT = TypeVar("FormT", bound=Form)

#: part -> its folder in the package and the form of its files
PARTS: dict[str, tuple[str, type[Form]]] = {
    "device": ("devices", DeviceForm),
    "memory": ("memories", MemoryForm),
    "link": ("links", LinkForm),
    "node": ("nodes", NodeForm),
    "cluster": ("clusters", ClusterForm),
    "price_list": ("prices", PriceListForm),
}
#: what stands around a device that is described by one file alone
_DEFAULT_NODE, _DEFAULT_CLUSTER = "default_node", "default_cluster"
_PART_OF_FORM = {form: part for part, (_, form) in PARTS.items()}
#: blocks of a form whose absence is no gap
_PARTS_THAT_MAY_LACK = frozenset(
    {"engine", "conversion", "array", "peak", "index_bits_per_nonzero", "index_bits_per_element"}
)
#: field of a form that names another part -> that part
_REFERENCES = {
    "memory": "memory",
    "device": "device",
    "node": "node",
    "scale_up_link": "link",
    "host_link": "link",
    "nic": "link",
}


@dataclass(frozen=True)
class _Entry:
    """A form with the document it was read from."""

    form: Form
    document: Document


class Library:
    """The parts of the package and of the user's directories."""

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        self._files: dict[tuple[str, str], tuple[Traversable | Path, str]] = {}
        self._entries: dict[tuple[str, str], _Entry] = {}
        for part, (folder, _) in PARTS.items():
            for file in _yaml_files(files("hardware_specs") / folder):
                self._files[part, _stem(file)] = (file, f"{folder}/{file.name}")
        for directory in directories:
            self._add(directory)

    def keys(self, part: str) -> tuple[str, ...]:
        """The keys of a kind of part, sorted."""
        return tuple(sorted(key for of, key in self._files if of == part))

    def system(self, name: str) -> SystemSpec:
        """The system of this key or alias.

        Raises:
            InputError: there is none, or a file behind it is wrong.
        """
        key = self._system_key(name)
        node = self.node(self._named(ClusterForm, key, NodeForm, "node"))
        device = self.device(self._named(NodeForm, node.key, DeviceForm, "device"))
        return self._put_together(key, device, node, key)

    def system_of_file(self, path: Path) -> SystemSpec:
        """A device of the user, described by this file alone, in a node and a cluster that are assumed.

        Raises:
            InputError: the file is wrong, or its key is that of a device which exists.
        """
        self._add_file(path, "device", read_document(path))
        for file in _yaml_files(files("hardware_specs") / "defaults"):
            part = "node" if _stem(file) == _DEFAULT_NODE else "cluster"
            self._files[part, _stem(file)] = (file, f"defaults/{file.name}")
        device = self.device(path.stem)
        node = replace(self.node(_DEFAULT_NODE), device_key=device.key)
        return self._put_together(device.key, device, node, _DEFAULT_CLUSTER)

    def _put_together(self, key: str, device: DeviceSpec, node: NodeSpec, cluster: str) -> SystemSpec:
        around = self.form(ClusterForm, cluster).build()
        links = dict.fromkeys(("link", link.key) for link in (node.scale_up, node.host_link, node.nic))
        used = [("cluster", cluster), ("node", node.key), ("device", device.key), *links]
        if ("memory", device.memory.key) in self._entries:
            used.insert(3, ("memory", device.memory.key))
        documents = [self._entries[part].document for part in used]
        return SystemSpec(
            key=key,
            device=device,
            node=node,
            cluster=around,
            content_hash=content_hash([document.data for document in documents]),
            files=tuple(document.file for document in documents),
        )

    def device(self, key: str) -> DeviceSpec:
        """The device of this key with its memory."""
        form = self.form(DeviceForm, key)
        if isinstance(form.memory, InlineMemory):
            return form.build(replace(form.memory.build(), key=f"{key} (its own file)"))
        return form.build(self.memory(self._named(DeviceForm, key, MemoryForm, "memory")))

    def memory(self, key: str) -> MemorySpec:
        """The memory of this key."""
        return self.form(MemoryForm, key).build()

    def link(self, key: str) -> LinkSpec:
        """The link of this key."""
        return self.form(LinkForm, key).build()

    def node(self, key: str) -> NodeSpec:
        """The node of this key with its links."""
        fields = ("scale_up_link", "host_link", "nic")
        links = [self.link(self._named(NodeForm, key, LinkForm, field)) for field in fields]
        return self.form(NodeForm, key).build(*links)

    def prices(self) -> tuple[PriceQuote, ...]:
        """Every quoted price of a device-hour, by system, newest last."""
        quotes = [
            PriceQuote(price.system, price.market, price.bound, price.as_of, price.price)
            for key in self.keys("price_list")
            for price in self.form(PriceListForm, key).prices
        ]
        return tuple(
            sorted(quotes, key=lambda quote: (quote.system_key, quote.as_of, quote.market, quote.bound))
        )

    def form(self, form: type[FormT], key: str) -> FormT:
        """The file of this key as it was written, its figures read."""
        found = self._entry(form, key).form
        assert isinstance(found, form)
        return found

    def _entry(self, form: type[Form], key: str) -> _Entry:
        part = _PART_OF_FORM[form]
        if (part, key) not in self._files:
            raise InputError(_unknown(part, key, self.keys(part)))
        if (part, key) not in self._entries:
            document = read_document(*self._files[part, key])
            self._entries[part, key] = _Entry(_checked(form, document, key), document)
        return self._entries[part, key]

    def _named(self, form: type[Form], key: str, below: type[Form], field: str) -> str:
        """The key of the part that a field names; a wrong one is a problem of the file that holds it."""
        entry, part = self._entry(form, key), _PART_OF_FORM[below]
        named = str(getattr(entry.form, field))
        if (part, named) not in self._files:
            raise InputError(entry.document.place((field,), _unknown(part, named, self.keys(part))))
        return named

    def _system_key(self, name: str) -> str:
        keys = self.keys("cluster")
        if name in keys:
            return name
        aliases = {_folded(key): key for key in keys}
        for key in keys:
            aliases |= {_folded(alias): key for alias in self.form(ClusterForm, key).aliases}
        if _folded(name) not in aliases:
            raise InputError(_unknown("system", name, sorted({*keys, *aliases})))
        return aliases[_folded(name)]

    def _add(self, directory: Path) -> None:
        """Take the parts in a directory and in its folders `devices`, `memories`, ..."""
        folders = (directory, *(directory / folder for folder, _ in PARTS.values()))
        for file in (file for folder in folders for file in sorted(folder.glob("*.yaml"))):
            document = read_document(file)
            part = document.data.get("part") if isinstance(document.data, dict) else None
            if isinstance(part, str) and part in PARTS:  # a scenario or a stack may stand there too
                self._add_file(file, part, document)

    def _add_file(self, file: Path, part: str, document: Document) -> None:
        if (part, file.stem) in self._files:
            problem = Problem(f"must be the key of a new {part}", f"{file.stem}, which exists")
            raise InputError(document.place(("key",), problem))
        self._files[part, file.stem] = (file, str(file))


@lru_cache(maxsize=8)
def library(directories: tuple[Path, ...] = ()) -> Library:
    """The library with these directories of the user; read once."""
    return Library(directories)


def list_systems(directories: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """The keys of all systems."""
    return library(directories).keys("cluster")


def load_system(name: str, directories: tuple[Path, ...] = ()) -> SystemSpec:
    """The system of this key or alias, such as `h200_sxm`, or of a file of the user's own.

    A path ends in `.yaml`. A device file stands in a node and a cluster that are assumed. The parts that a
    cluster file names are looked for in its folder (where that is called `clusters`, in those beside it) and
    in the package.

    Raises:
        InputError: there is none, or a file behind it is wrong.
    """
    if name.endswith(".yaml"):
        path = Path(name)
        if _part_of(path) == "device":
            return Library(directories).system_of_file(path)
        folder = path.parent.parent if path.parent.name == "clusters" else path.parent
        return Library((folder, *directories)).system(path.stem)
    return library(directories).system(name)


def load_device(key: str, directories: tuple[Path, ...] = ()) -> DeviceSpec:
    """The device of this key."""
    return library(directories).device(key)


def load_memory(key: str, directories: tuple[Path, ...] = ()) -> MemorySpec:
    """The memory of this key."""
    return library(directories).memory(key)


def load_link(key: str, directories: tuple[Path, ...] = ()) -> LinkSpec:
    """The link of this key."""
    return library(directories).link(key)


def load_node(key: str, directories: tuple[Path, ...] = ()) -> NodeSpec:
    """The node of this key."""
    return library(directories).node(key)


def load_prices(directories: tuple[Path, ...] = ()) -> tuple[PriceQuote, ...]:
    """Every quoted price of a device-hour, by system, newest last."""
    return library(directories).prices()


def check_file(path: Path) -> list[str]:
    """What a forecast that uses this hardware file will assume, one line a figure.

    Raises:
        InputError: with every problem of the file; where its form is right, with every reference that is not.
    """
    document = read_document(path)
    form = _checked(_form_type(document), document, path.stem)
    problems = list(_reference_problems(form, path, document))
    if problems:
        raise InputError(*problems)
    alone = isinstance(form, DeviceForm) and form.key not in library().keys("device")
    return [*assumptions_of(form), *(_surroundings() if alone else ())]


def assumptions_of(form: BaseModel, path: str = "") -> Iterator[str]:
    """One line for every figure of a form that is assumed, and every optional one that is not given."""
    for name in type(form).model_fields:
        if name not in _PARTS_THAT_MAY_LACK:
            yield from _assumptions(f"{path}{name}", getattr(form, name))


def _surroundings() -> Iterator[str]:
    """What is assumed around a device whose file is a system by itself."""
    for file in _yaml_files(files("hardware_specs") / "defaults"):
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


def _part_of(path: Path) -> str:
    """The part that a file says it holds; empty where it cannot be read, which its reader will say."""
    data = read_document(path).data if path.is_file() else None
    return str(data.get("part", "")) if isinstance(data, dict) else ""


def _form_type(document: Document) -> type[Form]:
    part = document.data.get("part") if isinstance(document.data, dict) else None
    if not isinstance(part, str) or part not in PARTS:
        given = "" if part is None else repr(part)
        problem = Problem(f"must be one of {', '.join(PARTS)}", given, suggestion=nearest(str(part), PARTS))
        raise InputError(document.place(("part",), problem))
    return PARTS[part][1]


def _checked(form: type[FormT], document: Document, stem: str) -> FormT:
    found = validate_document(form, document)
    if found.key != stem:
        raise InputError(document.place(("key",), Problem(f"must be the file's name, {stem}", found.key)))
    return found


def _reference_problems(form: Form, path: Path, document: Document) -> Iterator[Problem]:
    beside = {file.stem for file in path.parent.glob("*.yaml")}
    for field, part in _REFERENCES.items():
        key, known = getattr(form, field, None), library().keys(part)
        if isinstance(key, str) and key not in known and key not in beside:
            yield document.place((field,), _unknown(part, key, known))


def _unknown(part: str, key: str, known: Sequence[str]) -> Problem:
    return Problem(f"must be the key of a {part}", key, suggestion=nearest(_folded(key), known))


def _folded(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _stem(file: Traversable) -> str:
    return file.name.removesuffix(".yaml")


def _yaml_files(folder: Traversable) -> list[Traversable]:
    if not folder.is_dir():
        return []
    return sorted(
        (file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name
    )
