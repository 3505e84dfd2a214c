"""Parameter counts of the emitted graphs against the published ones, which a file beside this one lists.

`meta_count` is the exact count of an independent implementation, `extra_count` what the published total holds
beside it (named in `extra`), `published_billion` the total as its source prints it.
"""

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from model_graphs.configs import list_models, resolve_model
from model_graphs.totals import parameter_counts

with (Path(__file__).parent / "published_parameters.csv").open(encoding="utf-8") as file:
    PUBLISHED = {row["key"]: row for row in csv.DictReader(file)}


def test_every_model_with_figures_of_its_own_has_a_published_count() -> None:
    of_its_own = {model.key for model in list_models() if model.key == model.graph_key}
    assert of_its_own - PUBLISHED.keys() == {"article-v3"}  # which nobody published


@pytest.mark.parametrize("key", PUBLISHED)
def test_the_graph_holds_the_published_parameters(key: str) -> None:
    row, total = PUBLISHED[key], parameter_counts(resolve_model(key)).total
    assert total == int(row["meta_count"])
    published = Decimal(row["published_billion"])
    counted = Decimal(total + int(row["extra_count"] or 0)) / 10**9
    last_digit = Decimal(1).scaleb(published.as_tuple().exponent)
    assert abs(counted - published) <= last_digit / 2
