import json
import re
from collections.abc import Callable
from os import terminal_size

import pytest

from reports.console import console, json_text
from reports.forecast_json import simulation_json
from reports.forecast_tables import simulation_tables
from reports.simulation import SimulationReport, simulate_report
from simulator.forecast import Forecast
from simulator.scenario.model import Objectives, Scenario

Forecaster = Callable[[Scenario], Forecast]


@pytest.fixture
def report(scenario: Scenario, fake_forecast: Forecaster) -> SimulationReport:
    limited = scenario.model_copy(update={"objectives": Objectives(ttft_ms=200.0)})
    return simulate_report(limited, (), fake_forecast)


def printed(report: SimulationReport) -> str:
    out = console()
    with out.capture() as captured:
        for made in simulation_tables(report):
            out.print(made)
    return captured.get()


def test_the_three_indicators_come_before_every_other_number(report: SimulationReport) -> None:
    text = printed(report)
    order = [
        "time to first token",
        "stability on long context",
        "cost of hardware",
        "Predicted beside measured",
    ]
    order += ["Memory of one device", "binding: memory bandwidth", "Assumptions", "accuracy"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_tables_stay_within_the_terminal_and_cut_nothing(
    report: SimulationReport, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda fallback: terminal_size((columns, 40)))
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(report))
    assert max(map(len, text.splitlines())) <= max(columns, 80)
    for whole in ("time to first token (mean)", "x64 = 64,000", "[3,640, 4,450]", "2000/11"):
        assert whole in text


def test_every_number_stands_with_its_interval_and_grade(report: SimulationReport) -> None:
    line = next(line for line in printed(report).splitlines() if line.strip().startswith("output_tok_s"))
    assert line.split() == ["output_tok_s", "44.00", "[39.6,", "48.4]", "tok/s", "B"]


def test_a_scenario_without_a_price_says_so(scenario: Scenario, fake_forecast: Forecaster) -> None:
    free = scenario.model_copy(update={"price_usd_per_gpu_hour": None})
    assert "no price: --price" in printed(simulate_report(free, (), fake_forecast))


def test_json_holds_numbers_intervals_hash_and_versions(report: SimulationReport) -> None:
    content = json.loads(json_text(simulation_json(report)))
    assert content["metrics"]["tpot_ms"] == {
        "value": 10.0,
        "low": 9.0,
        "high": 11.0,
        "unit": "ms",
        "grade": "B",
    }
    assert content["input_hash"] == "0123456789abcdef"
    assert content["versions"]["silicast"] == "0.1.0"
    assert content["comparisons"][0]["measured"] == 20.0
    assert content["objectives"][0]["met"] is True
    assert content["memory"]["kv_cache_bytes"] == 44 * 2**30


def test_json_is_sorted_and_the_same_bytes_for_the_same_content(report: SimulationReport) -> None:
    text = json_text(simulation_json(report))
    assert text == json_text(simulation_json(report))
    assert json.dumps(json.loads(text), sort_keys=True, indent=2, ensure_ascii=False) == text


def test_json_has_null_where_there_is_no_finite_number() -> None:
    assert json.loads(json_text({"a": float("nan"), "b": (1, 2.5)})) == {"a": None, "b": [1, 2.5]}
