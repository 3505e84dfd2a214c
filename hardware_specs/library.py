"""The hardware library: finds the files of parts, reads them, and puts devices, nodes and clusters together.

The package's own files are always there; directories of the user may add parts and never replace one. A
file is known by its `part` and its `key`, which is also its name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from hardware_specs.dram import Built
from hardware_specs.forms import DeviceForm, DramForm, Form, InlineMemory, MemoryForm
from hardware_specs.host_forms import DriveForm, ExpanderForm, HostForm
from hardware_specs.parts import (
    DeviceSpec,
    DramSpec,
    DriveSpec,
    ExpanderSpec,
    HostSpec,
    LinkSpec,
    MemorySpec,
    NodeSpec,
    PriceQuote,
    SystemSpec,
)
from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.hashing import content_hash
from hardware_specs.records.name_table import read_names
from hardware_specs.records.yaml_reader import Document, read_document, validate_document
from hardware_specs.server_forms import ClusterForm, LinkForm, NodeForm, NodeLinks, PriceListForm

FormT = TypeVar("FormT", bound=Form)

#: part -> its folder in the package and the form of its files
PARTS: dict[str, tuple[str, type[Form]]] = {
    "device": ("devices", DeviceForm),
    "dram": ("dram_families", DramForm),
    "memory": ("memories", MemoryForm),
    "link": ("links", LinkForm),
    "host": ("hosts", HostForm),
    "drive": ("drives", DriveForm),
    "expander": ("expanders", ExpanderForm),
    "node": ("nodes", NodeForm),
    "cluster": ("clusters", ClusterForm),
    "price_list": ("prices", PriceListForm),
}
#: what stands around a device that is described by one file alone
_DEFAULTS = {"node": "default_node", "cluster": "default_cluster"}
#: folder of devices that nobody sells: each is a system by itself
_WHAT_IF = "what_if"
_PART_OF_FORM = {form: part for part, (_, form) in PARTS.items()}
#: field of a form that names another part -> that part
REFERENCES = {
    "family": "dram",
    "memory": "memory",
    "device": "device",
    "node": "node",
    "scale_up_link": "link",
    "host_link": "link",
    "nic": "link",
    "link": "link",
    "host": "host",
    "drive": "drive",
    "expander": "expander",
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
            for file in yaml_files(files("hardware_specs") / folder):
                self._files[part, _stem(file)] = (file, f"{folder}/{file.name}")
        self._alone = set[str]()
        for file in yaml_files(files("hardware_specs") / _WHAT_IF):
            self._files["device", _stem(file)] = (file, f"{_WHAT_IF}/{file.name}")
            self._alone.add(_stem(file))
        for part, default in _DEFAULTS.items():
            file = files("hardware_specs") / "defaults" / f"{default}.yaml"
            self._files[part, default] = (file, f"defaults/{file.name}")
        for directory in directories:
            self._add(directory)

    def keys(self, part: str) -> tuple[str, ...]:
        """The keys of a kind of part, sorted; defaults are nobody's choice and not among them."""
        return tuple(sorted(key for of, key in self._files if of == part and key not in _DEFAULTS.values()))

    def system_keys(self) -> tuple[str, ...]:
        """The keys of all systems, sorted: clusters, and devices that stand in an assumed one."""
        return tuple(sorted({*self.keys("cluster"), *self._alone}))

    def system(self, name: str) -> SystemSpec:
        """The system of this key or alias.

        Raises:
            InputError: there is none, or a file behind it is wrong.
        """
        key = self._system_key(name)
        if key in self._alone:
            return self._in_defaults(key)
        node = self.node(self._named(ClusterForm, key, NodeForm, "node"))
        device = self.device(self._named(NodeForm, node.key, DeviceForm, "device"))
        return self._put_together(key, device, node, key)

    def system_of_file(self, path: Path) -> SystemSpec:
        """A device of the user, described by this file alone, in a node and a cluster that are assumed.

        Raises:
            InputError: the file is wrong, or its key is that of a device which exists.
        """
        self._add_file(path, "device", read_document(path))
        return self._in_defaults(path.stem)

    def _in_defaults(self, key: str) -> SystemSpec:
        device = self.device(key)
        node = replace(self.node(_DEFAULTS["node"]), device_key=device.key)
        return self._put_together(device.key, device, node, _DEFAULTS["cluster"])

    def _put_together(self, key: str, device: DeviceSpec, node: NodeSpec, cluster: str) -> SystemSpec:
        around = self.form(ClusterForm, cluster).build()
        used = [("cluster", cluster), ("node", node.key), ("device", device.key), *_parts_of(node)]
        if ("memory", device.memory.key) in self._entries:
            used.append(("memory", device.memory.key))
        if device.memory.dram is not None:
            used.append(("dram", device.memory.dram.key))
        documents = [self._entries[part].document for part in dict.fromkeys(used)]
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
            document = self._entry(DeviceForm, key).document
            memory = self._built_memory(form.memory, document, ("memory",))
            return form.build(replace(memory, key=f"{key} (its own file)"))
        return form.build(self.memory(self._named(DeviceForm, key, MemoryForm, "memory")))

    def memory(self, key: str) -> MemorySpec:
        """The memory of this key."""
        return self._built_memory(self.form(MemoryForm, key), self._entry(MemoryForm, key).document, ())

    def dram(self, key: str) -> DramSpec:
        """The DRAM family of this key."""
        return self.form(DramForm, key).build()

    def host(self, key: str) -> HostSpec:
        """The processors of this key."""
        form, document = self.form(HostForm, key), self._entry(HostForm, key).document
        return form.build(self._dram_of(form, form.family, document))

    def drive(self, key: str) -> DriveSpec:
        """The drive of this key."""
        return self.form(DriveForm, key).build()

    def expander(self, key: str) -> ExpanderSpec:
        """The memory expander of this key."""
        form, document = self.form(ExpanderForm, key), self._entry(ExpanderForm, key).document
        link = self.link(self._named(ExpanderForm, key, LinkForm, "link"))
        return form.build(self._dram_of(form, form.family, document), link)

    def _built_memory(self, form: MemoryForm, document: Document, path: tuple[str, ...]) -> MemorySpec:
        """The record of a memory at this path of a document."""
        return form.build(self._dram_of(form, form.family, document, path) if form.family else None)

    def _dram_of(self, form: Built, family: str, document: Document, path: tuple[str, ...] = ()) -> DramSpec:
        """The DRAM family that a form at this path names, which it must not contradict."""
        known = self.keys("dram")
        if family not in known:
            raise InputError(document.place((*path, "family"), unknown_key("dram", family, known)))
        dram = self.dram(family)
        problems = [document.place((*path, problem.path), problem) for problem in form.contradictions(dram)]
        if problems:
            raise InputError(*problems)
        return dram

    def link(self, key: str) -> LinkSpec:
        """The link of this key."""
        return self.form(LinkForm, key).build()

    def node(self, key: str) -> NodeSpec:
        """The node of this key with its links."""
        fields = ("scale_up_link", "host_link", "nic")
        links = [self.link(self._named(NodeForm, key, LinkForm, field)) for field in fields]
        form = self.form(NodeForm, key)
        return form.build(
            NodeLinks(*links),
            host=self.host(self._named(NodeForm, key, HostForm, "host")) if form.host else None,
            drive=self.drive(self._named(NodeForm, key, DriveForm, "drive")) if form.drive else None,
            expander=self._expander_of(form) if form.expander else None,
        )

    def _expander_of(self, node: NodeForm) -> ExpanderSpec:
        return self.expander(self._named(NodeForm, node.key, ExpanderForm, "expander"))

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
            raise InputError(unknown_key(part, key, self.keys(part)))
        if (part, key) not in self._entries:
            document = read_document(*self._files[part, key])
            self._entries[part, key] = _Entry(checked(form, document, key), document)
        return self._entries[part, key]

    def _named(self, form: type[Form], key: str, below: type[Form], field: str) -> str:
        """The key of the part that a field names; a wrong one is a problem of the file that holds it."""
        entry, part = self._entry(form, key), _PART_OF_FORM[below]
        named = str(getattr(entry.form, field))
        if (part, named) not in self._files:
            raise InputError(entry.document.place((field,), unknown_key(part, named, self.keys(part))))
        return named

    def _system_key(self, name: str) -> str:
        keys = self.system_keys()
        if name in keys:
            return name
        aliases = {_folded(key): key for key in keys}
        for key in self.keys("cluster"):
            aliases |= {_folded(alias): key for alias in self.form(ClusterForm, key).aliases}
        if _folded(name) not in aliases:
            raise InputError(_no_system(name, sorted({*keys, *aliases})))
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
    return library(directories).system_keys()


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


def _part_of(path: Path) -> str:
    """The part that a file says it holds; empty where it cannot be read, which its reader will say."""
    data = read_document(path).data if path.is_file() else None
    return str(data.get("part", "")) if isinstance(data, dict) else ""


def _parts_of(node: NodeSpec) -> Iterator[tuple[str, str]]:
    """Kind and key of every part that a node is put together from."""
    links = [node.scale_up, node.host_link, node.nic]
    if node.host is not None:
        yield from (("host", node.host.key), ("dram", node.host.dram.key))
    if node.drive is not None:
        yield "drive", node.drive.key
    if node.expander is not None:
        links.append(node.expander.link)
        yield from (("expander", node.expander.key), ("dram", node.expander.dram.key))
    yield from (("link", link.key) for link in links)


def checked(form: type[FormT], document: Document, stem: str) -> FormT:
    """The form of a document, whose key must be its file's name.

    Raises:
        InputError: with every problem of the file.
    """
    found = validate_document(form, document)
    if found.key != stem:
        raise InputError(document.place(("key",), Problem(f"must be the file's name, {stem}", found.key)))
    return found


def unknown_key(part: str, key: str, known: Sequence[str]) -> Problem:
    """What is said of a key that no part has."""
    return Problem(f"must be the key of a {part}", key, suggestion=nearest(_folded(key), known))


@lru_cache(maxsize=1)
def unmodelled_systems() -> Mapping[str, str]:
    """Why there is no system under a name that measured rows have, by the name as aliases are compared."""
    names = read_names(files("hardware_specs") / "unmodelled.yaml", "hardware_specs/unmodelled.yaml")
    return {_folded(name): reason for name, reason in names.items()}


def _no_system(name: str, known: Sequence[str]) -> Problem:
    """The reason that a table gives for there being no such system, else the nearest name."""
    if reason := unmodelled_systems().get(_folded(name)):
        return Problem(f"system must be described; not: {reason}", repr(name), path="system")
    return unknown_key("system", name, known)


def _folded(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _stem(file: Traversable) -> str:
    return file.name.removesuffix(".yaml")


def yaml_files(folder: Traversable) -> list[Traversable]:
    """The YAML files of a folder, by name; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        (file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name
    )
