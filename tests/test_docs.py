"""Pages that a command makes are the pages that it makes today."""

from pathlib import Path

import silicast
from hardware_specs.provenance import data_sources_markdown, every_source

ROOT = Path(silicast.__file__).parent
PACKAGES = ("hardware_specs", "model_graphs", "simulator", "reports")


def test_the_page_of_data_sources_is_that_of_the_yaml():
    made = data_sources_markdown(every_source(ROOT / package for package in PACKAGES))
    page = (ROOT / "docs" / "data-sources.md").read_text(encoding="utf-8")
    assert page == made, "run `make sources`"
