"""What an error suggests in place of a word that stands for nothing."""

import pytest

from hardware_specs.records.errors import nearest


@pytest.mark.parametrize(
    ("word", "choices", "expected"),
    [
        ("h200", ["gh200", "h200_nvl_141gb_pcie", "h200_sxm"], "h200_sxm"),  # what it begins comes first
        ("gh20", ["gh200", "h200_sxm"], "gh200"),
        ("sglangg", ["sglang", "vllm"], "sglang"),
        ("zzz", ["sglang", "vllm"], ""),
        ("", ["sglang"], ""),
    ],
)
def test_the_nearest_is_what_the_word_begins_or_looks_like(
    word: str, choices: list[str], expected: str
) -> None:
    assert nearest(word, choices) == expected
