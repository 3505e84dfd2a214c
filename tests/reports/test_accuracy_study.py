import itertools
import json
from pathlib import Path

import pytest

from reports.accuracy_study import LABEL, committed_study, mean_and_spread, orderings, scheme_line
from reports.accuracy_study_page import markdown
from reports.cli.main import main
from reports.html.accuracy_study import render_study

PAGE = Path(__file__).parents[2] / "docs" / "accuracy-proxy.md"


def test_the_shipped_study_orders_schemes_by_bits_and_zeros() -> None:
    found = list(orderings(committed_study()))
    assert len(found) == 10
    assert all(holds for _, _, holds in found)


def test_fp8_costs_less_than_int4_and_int4_less_than_int2_beyond_their_errors() -> None:
    told = [
        mean_and_spread(scheme_line(committed_study(), name)["divergence"])
        for name in ("fp8", "int4", "int2")
    ]
    for (low, low_error), (high, high_error) in itertools.pairwise(told):
        assert low + 2 * low_error < high - 2 * high_error


def test_an_order_that_is_broken_is_seen() -> None:
    broken = json.loads(json.dumps(committed_study()))
    scheme_line(broken, "int2")["divergence"][:] = [0.0, 0.0, 0.0]
    assert ("int3", "int2", False) in list(orderings(broken))


def test_the_shipped_page_is_that_of_the_shipped_study() -> None:
    text = PAGE.read_text(encoding="utf-8")
    lines = markdown(committed_study(), "silicast accuracy study", "", {}).splitlines()
    dated = next(line for line in lines if line.startswith("Date"))
    assert [line for line in lines if line != dated] == [
        line for line in text.splitlines() if not line.startswith("Date")
    ]
    assert committed_study()["corpus"] in text
    assert LABEL in text


def test_the_html_page_needs_no_network_and_says_what_it_is() -> None:
    text = render_study(committed_study())
    assert LABEL in text
    assert text.count("data-chart=") >= 3
    assert 'src="http' not in text


def test_a_mean_has_the_standard_error_of_its_seeds() -> None:
    # 1, 2, 3: standard deviation 1, over the root of 3
    assert mean_and_spread([1.0, 2.0, 3.0]) == (2.0, pytest.approx(3**-0.5))


def test_the_command_answers_the_articles_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accuracy", "proportion", "0.892", "0.917", "--n", "1273"]) == 0
    assert "told apart: +2.50 points (+0.21 to +4.80)" in " ".join(capsys.readouterr().out.split())
    assert main(["accuracy", "proportion", "0.892", "0.917", "--n", "500", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"].startswith("not told apart")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["proportion", "0.9"], "needs --n"),
        (["proportion", "--n", "10"], "takes one or two fractions"),
        (["proportion", "89.2", "91.7", "--n", "1273"], "must be a fraction from 0 to 1"),
        (["show", "0.5"], "takes no fraction"),
        (["train"], "needs --out"),
    ],
)
def test_bad_input_is_refused_with_what_is_needed(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["accuracy", *argv]) == 2
    assert words in capsys.readouterr().err


def test_show_prints_the_study_and_writes_its_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, html = tmp_path / "page.md", tmp_path / "page.html"
    assert main(["accuracy", "show", "--page", str(page), "--html", str(html), "--date", "2026-01-01"]) == 0
    assert LABEL in capsys.readouterr().out
    assert "Date 2026-01-01" in page.read_text(encoding="utf-8")
    assert html.stat().st_size > 10**6
