"""Where every number comes from: each `source` in the packages' YAML, put under the publication it cites.

`sources.yaml` lists the publications with version, licence and the words by which a citation is recognised. A
figure whose own source names no publication belongs to the `sources` of its file; where there are none, it
stands under its own words. `python -m hardware_specs.provenance FOLDER...` prints `docs/data-sources.md`.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hardware_specs.records.wording import path_text
from hardware_specs.records.yaml_reader import Plain, read_document, validate_file

#: keys whose text names an item of a list better than its number does
_LABELS = ("key", "backend", "version", "family", "dtype", "kernel", "system", "market", "bound", "metric")


class Publication(BaseModel):
    """Something that figures are taken from, recognised by any `match` in a citation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    match: tuple[str, ...]
    version: str = ""
    licence: str = ""
    note: str = ""


class PublicationList(BaseModel):
    """The file `sources.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    publications: tuple[Publication, ...]


@dataclass(frozen=True, order=True)
class SourcedFigure:
    """One figure, or one entry of figures, that says its source."""

    file: str
    path: str
    source: str
    kind: str


@dataclass(frozen=True)
class Source:
    """A publication and everything that was taken from it."""

    publication: Publication
    figures: tuple[SourcedFigure, ...] = field(default=())

    @property
    def kinds(self) -> tuple[str, ...]:
        """How its figures are known, sorted."""
        return tuple(sorted({figure.kind for figure in self.figures if figure.kind}))

    @property
    def by_file(self) -> Mapping[str, tuple[SourcedFigure, ...]]:
        """Its figures by file, sorted."""
        names = sorted({figure.file for figure in self.figures})
        return {name: tuple(one for one in self.figures if one.file == name) for name in names}


@lru_cache(maxsize=1)
def publications() -> tuple[Publication, ...]:
    """The known publications, in the order in which a citation is compared with them."""
    return validate_file(
        PublicationList, files("hardware_specs") / "sources.yaml", "sources.yaml"
    ).publications


def every_source(roots: Iterable[Traversable]) -> tuple[Source, ...]:
    """Every source in the YAML files below these folders, by title."""
    found: dict[str, tuple[Publication, list[SourcedFigure]]] = {}
    for root in roots:
        for file, name in _yaml_below(root, root.name):
            for figure, publication in _sourced(read_document(file, name).data, name):
                found.setdefault(publication.title, (publication, []))[1].append(figure)
    ordered = sorted(found.items(), key=lambda item: item[0].lower())
    return tuple(Source(publication, tuple(sorted(figures))) for _, (publication, figures) in ordered)


def data_sources_markdown(sources: Iterable[Source]) -> str:
    """`docs/data-sources.md`: a table of the sources, then what was taken from each."""
    listed = tuple(sources)
    lines = [
        "# Where the numbers come from",
        "",
        "Made by `python -m hardware_specs.provenance` from the YAML of the packages; do not edit. Only",
        "figures were taken, no text and no code. An empty licence means that none was found stated.",
        "",
        "| source | version | licence | entries | known as |",
        "|---|---|---|---|---|",
        *(_row(source) for source in listed),
    ]
    for source in listed:
        lines += ["", f"## {source.publication.title}", "", *_section(source)]
    return "\n".join(lines) + "\n"


def _row(source: Source) -> str:
    known = source.publication
    cells = (known.title, known.version, known.licence, str(len(source.figures)), ", ".join(source.kinds))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _section(source: Source) -> Iterator[str]:
    if source.publication.note:
        yield from (source.publication.note, "")
    for file, figures in source.by_file.items():
        yield f"- `{file}`: {', '.join(figure.path for figure in figures)}"


def _sourced(data: Plain, file: str) -> Iterator[tuple[SourcedFigure, Publication]]:
    general = tuple(_general_sources(data))
    for path, source, kind in _figures(data, ()):
        figure = SourcedFigure(file, path_text(path) or "the whole file", source, kind)
        own = _known(source)
        for publication in (own,) if own else general or (Publication(title=source, match=(source,)),):
            yield figure, publication


def _general_sources(data: Plain) -> Iterator[Publication]:
    """The publications that a file as a whole names in a list of citations."""
    listed = data.get("sources") if isinstance(data, dict) else None
    for citation in listed if isinstance(listed, list) else ():
        if isinstance(citation, str):
            yield _known(citation) or Publication(title=citation, match=(citation,))


def _known(source: str) -> Publication | None:
    return next((one for one in publications() if any(words in source for words in one.match)), None)


def _figures(data: Plain, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Path, source and kind of every mapping that has a `source`."""
    if isinstance(data, dict):
        if isinstance(data.get("source"), str):
            kind = data.get("kind")
            yield (*path, *_extent(data)), str(data["source"]), kind if isinstance(kind, str) else ""
        for key, value in data.items():
            yield from _figures(value, (*path, key))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            parent, name = path[:-1], path[-1] if path else ""
            yield from _figures(item, (*parent, f"{name}[{_label(item) or index}]"))


def _extent(data: Mapping[str, Plain]) -> tuple[str, ...]:
    """What a sourced entry covers beside itself: the fields that it names, or the number of its constants."""
    named, constants = data.get("fields"), data.get("constants")
    if isinstance(named, list):
        return (f"fields({', '.join(map(str, named))})",)
    return (f"constants({len(constants)})",) if isinstance(constants, dict) else ()


def _label(item: Plain) -> str:
    if not isinstance(item, dict):
        return ""
    return " ".join(str(item[key]) for key in _LABELS if isinstance(item.get(key), str))


def _yaml_below(folder: Traversable, name: str) -> Iterator[tuple[Traversable, str]]:
    for item in sorted(folder.iterdir(), key=lambda one: one.name):
        below = f"{name}/{item.name}"
        if item.is_dir():
            yield from _yaml_below(item, below)
        elif item.name.endswith(".yaml"):
            yield item, below


if __name__ == "__main__":
    sys.stdout.write(data_sources_markdown(every_source(Path(folder) for folder in sys.argv[1:])))
