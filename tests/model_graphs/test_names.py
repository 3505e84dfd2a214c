"""Every model that measured rows name is one that resolves, or a table says why it does not."""

from collections.abc import Callable

import pytest

from hardware_specs.records.errors import InputError
from model_graphs.configs import resolve_model, unmodelled

COLUMNS = ("model_path", "model_key", "model")


def resolves(name: str) -> bool:
    try:
        resolve_model(name)
    except InputError:
        return False
    return True


def test_every_model_of_measured_rows_resolves_or_has_a_reason_why_not(
    named_in_rows: Callable[..., set[tuple[str, str]]],
) -> None:
    named = named_in_rows(*COLUMNS)
    assert len({file for file, _ in named}) >= 4
    unknown = {
        f"{file}: {name}" for file, name in named if not resolves(name) and name.lower() not in unmodelled()
    }
    assert not unknown


@pytest.mark.parametrize("name", unmodelled())
def test_a_reason_is_given_only_where_there_is_no_model(name: str) -> None:
    with pytest.raises(InputError, match="model must be implemented"):
        resolve_model(name)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("bert-large (MLPerf bert-99, SQuAD len<=384)", "bert-large"),
        ("gptj-99.9", "gpt-j-6b"),
        ("Phi-2 2.7B", "phi-2"),
    ],
)
def test_names_of_benchmarks_resolve_to_canonical_keys(name: str, key: str) -> None:
    assert resolve_model(name).key == key
