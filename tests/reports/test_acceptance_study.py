import json
from pathlib import Path

import pytest

from reports.acceptance_page import BAR, bar, markdown
from reports.acceptance_study import LABEL, RUNS, Run, committed_acceptance, derived, line_of, tokens_a_step
from reports.cli.main import main
from reports.html.acceptance_study import render_acceptance
from simulator.measured.proportions import wilson_interval

PAGE = Path(__file__).parents[2] / "docs" / "speculation-proxy.md"
TEMPERATURES = (0.0, 1.0)


def first(run: Run) -> dict[str, float]:
    """The pooled acceptance of a run's first drafts."""
    found: dict[str, float] = line_of(committed_acceptance(), run)["pooled"]["acceptance"][0]
    return found


def test_tokens_a_step_are_one_and_every_draft_whose_predecessors_were_kept() -> None:
    # 1 + 0.5; + 0.5 * 0.8; + 0.5 * 0.8 * 0.25
    assert list(tokens_a_step([0.5, 0.8, 0.25])) == pytest.approx([1.5, 1.9, 2.0])


def test_counts_are_pooled_and_get_the_interval_of_their_sum() -> None:
    found = derived([{"judged": [8, 4], "accepted": [4, 0]}, {"judged": [2, 0], "accepted": [2, 0]}])
    wanted = wilson_interval(6 / 10, 10)
    assert found["acceptance"][0] == {"value": 0.6, "low": wanted.low, "high": wanted.high}
    assert found["acceptance"][1]["value"] == 0
    assert found["tokens_a_step"] == [1.6, 1.6]


def test_a_position_that_was_never_judged_has_no_interval() -> None:
    found = derived([{"judged": [5, 0], "accepted": [0, 0]}])
    assert found["acceptance"][1] is None
    assert found["tokens_a_step"] == [1.0, 1.0]


def test_the_shipped_figures_follow_from_the_shipped_counts() -> None:
    for line in committed_acceptance()["runs"]:
        counts = [{key: one[key] for key in ("judged", "accepted")} for one in line["by_seed"]]
        assert line["pooled"] == derived(counts)
        for one in counts:
            followed = zip(one["judged"][1:], one["accepted"], strict=False)
            assert all(judged <= accepted for judged, accepted in followed)
            assert all(a <= n for a, n in zip(one["accepted"], one["judged"], strict=True))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_both_trained_drafters_beat_the_untrained_module_at_every_seed(temperature: float) -> None:
    untrained = first(Run("mtp, untrained", temperature=temperature, passages=64))
    for drafter in ("mtp", "draft model"):
        line = line_of(committed_acceptance(), Run(drafter, temperature=temperature))
        assert all(one["acceptance"][0]["low"] > untrained["high"] for one in line["by_seed"])


def test_the_shipped_page_is_that_of_the_shipped_study() -> None:
    text = PAGE.read_text(encoding="utf-8")
    lines = markdown(committed_acceptance(), "silicast accuracy acceptance", "", {}).splitlines()
    assert [line for line in lines if not line.startswith("Date")] == [
        line for line in text.splitlines() if not line.startswith("Date")
    ]
    assert committed_acceptance()["corpus"] in text
    assert LABEL in text


def test_a_bar_ends_where_its_interval_does() -> None:
    drawn = bar({"value": 0.5, "low": 0.4, "high": 0.6})
    assert drawn.startswith("#" * 20 + "-" * 10 + " " * 20 + "| 50.0%")
    assert BAR == 50
    assert bar(None) == ""


def test_the_html_page_needs_no_network_and_says_what_it_is() -> None:
    text = render_acceptance(committed_acceptance())
    assert LABEL in text
    assert text.count("data-chart=") == 2
    assert 'src="http' not in text


def test_show_prints_the_study_and_writes_its_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, html = tmp_path / "page.md", tmp_path / "page.html"
    told = ["--page", str(page), "--html", str(html), "--date", "2026-01-01"]
    assert main(["accuracy", "show", "--of", "acceptance", *told]) == 0
    assert LABEL in capsys.readouterr().out
    assert "Date 2026-01-01" in page.read_text(encoding="utf-8")
    assert html.stat().st_size > 10**6
    assert main(["accuracy", "show", "--of", "acceptance", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == len(RUNS)


def test_one_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert main(["accuracy", "acceptance", "--seeds", "1"]) == 2
    assert "for error bars" in capsys.readouterr().err
