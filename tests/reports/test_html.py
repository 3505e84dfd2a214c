import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from reports.accuracy import AccuracyCard, AccuracyLine
from reports.html import sections
from reports.html.page import ReportContent, render
from reports.load_curve import load_curve
from reports.operators import OperatorTime, TypicalStep
from reports.simulation import simulate_report
from simulator.forecast import Forecast
from simulator.scenario.model import Scenario

Forecaster = Callable[[Scenario], Forecast]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Collects addresses and checks that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def content(scenario: Scenario, fake_forecast: Forecaster) -> ReportContent:
    curve = load_curve(scenario, fake_forecast)
    operators = (OperatorTime("experts", "memory", 58, 0.006), OperatorTime("norm", "launch", 122, 0.001))
    steps = (TypicalStep("decode", 0.008, operators),)
    return ReportContent(simulate_report(scenario, (), fake_forecast), curve, steps)


def own_part(page: str) -> str:
    """The page without the plotly library."""
    return re.sub(r"<script>.{1000000,}?</script>", "<script></script>", page, flags=re.DOTALL)


def test_the_page_is_one_file_that_asks_for_nothing_else(content: ReportContent) -> None:
    reader = Reader()
    reader.feed(own_part(render(content)))
    assert reader.open == []
    assert reader.addresses
    assert all(address.startswith("#") for address in reader.addresses)
    assert "@import" not in own_part(render(content))


def test_the_plotting_library_is_inlined_once(content: ReportContent) -> None:
    page = render(content)
    assert page.count("<script>") == 2
    assert 4_000_000 < len(page) < 7_000_000


def test_every_section_with_content_is_linked(content: ReportContent) -> None:
    page = own_part(render(content))
    for anchor in ("load", "measured", "context", "step", "operators", "memory", "metrics", "assumptions"):
        assert f'<a href="#{anchor}">' in page
        assert f'<section id="{anchor}">' in page


def test_a_scenario_without_measured_points_has_no_such_section(
    scenario: Scenario, fake_forecast: Forecaster
) -> None:
    bare = scenario.model_copy(update={"points": ()})
    report = ReportContent(simulate_report(bare, (), fake_forecast), load_curve(bare, fake_forecast), ())
    assert 'id="measured"' not in own_part(render(report))


def test_the_accuracy_card_is_shown_where_one_ships(
    content: ReportContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = AccuracyLine("H200 sglang", "tpot_ms", 15, 15, 4.1, 5.0, 9.0, -1.0, 93.3, 10.0, split="dev")
    shipped = AccuracyCard("2026-11-24", "0.1.0", "abc", (line,))
    monkeypatch.setattr(sections, "accuracy_card", lambda: shipped)
    page = own_part(render(content))
    assert 'id="accuracy"' in page
    assert "H200 sglang" in page


def test_text_from_data_is_escaped(scenario: Scenario, fake_forecast: Forecaster) -> None:
    named = scenario.model_copy(update={"description": "<script>alert(1)</script>"})
    report = simulate_report(named, (), fake_forecast)
    page = render(ReportContent(report, load_curve(named, fake_forecast), ()))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_same_content_gives_the_same_bytes(content: ReportContent) -> None:
    assert render(content) == render(content)
