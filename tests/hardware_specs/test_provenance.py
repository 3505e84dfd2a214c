from importlib.resources import files
from pathlib import Path

import pytest

from hardware_specs.provenance import Source, data_sources_markdown, every_source, publications

SPECS = """\
sources: [vLLM release 1.2.3 config]
rules:
  limit: {value: 3, unit: "1", source: the server's default, kind: datasheet}
  wait: {value: 1, unit: s, source: "aiconfigurator-core 0.12.0, systems/x.yaml", kind: fitted}
"""
FIT = """\
entries:
  - {family: gemm, dtype: fp8, source: a lab note, kind: fitted, constants: {a: 1, b: 2}}
  - {family: norm, source: a lab note, kind: fitted}
"""


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Source]:
    (tmp_path / "specs/below").mkdir(parents=True)
    (tmp_path / "specs/a.yaml").write_text(SPECS)
    (tmp_path / "specs/below/fit.yaml").write_text(FIT)
    return {source.publication.title: source for source in every_source([tmp_path / "specs"])}


def test_a_citation_goes_to_the_publication_that_it_names(sources: dict[str, Source]) -> None:
    (figure,) = sources["aiconfigurator-core (NVIDIA)"].figures
    assert (figure.file, figure.path, figure.kind) == ("specs/a.yaml", "rules.wait", "fitted")
    assert sources["aiconfigurator-core (NVIDIA)"].publication.licence == "Apache-2.0"


def test_a_figure_without_a_publication_belongs_to_the_sources_of_its_file(
    sources: dict[str, Source],
) -> None:
    assert [figure.path for figure in sources["vLLM"].figures] == ["rules.limit"]


def test_any_other_source_stands_under_its_own_words(sources: dict[str, Source]) -> None:
    note = sources["a lab note"]
    assert note.publication.licence == ""
    assert [figure.path for figure in note.figures] == ["entries[gemm fp8].constants(2)", "entries[norm]"]


def test_every_sourced_figure_of_the_package_is_listed_once() -> None:
    listed = [figure for source in every_source([files("hardware_specs")]) for figure in source.figures]
    assert len(listed) == len(set(listed)) > 200
    assert all(figure.source for figure in listed)


def test_every_publication_is_recognised_by_words_of_its_own() -> None:
    words = [match for publication in publications() for match in publication.match]
    assert len(words) == len(set(words))


def test_the_page_is_the_same_every_time() -> None:
    first, second = (data_sources_markdown(every_source([files("hardware_specs")])) for _ in range(2))
    assert first == second
    assert first.startswith("# Where the numbers come from\n")
    assert "| aiconfigurator-core (NVIDIA) | 0.12.0 | Apache-2.0 |" in first
