"""The report: one HTML file that needs no network. Sections in reading order, one script, one style sheet."""

from dataclasses import dataclass
from html import escape
from importlib.resources import files

from plotly.offline import get_plotlyjs

from reports.html import sections
from reports.html.markup import definitions
from reports.load_curve import LoadCurve
from reports.operators import TypicalStep
from reports.rows import approximation, describe_deployment, describe_engine, describe_load
from reports.simulation import SimulationReport
from reports.versions import silicast_version

#: the one script: draws every chart of the page
DRAW = """
for (const data of document.querySelectorAll("script[data-chart]")) {
  const figure = JSON.parse(data.textContent);
  const settings = {displayModeBar: false, responsive: true};
  Plotly.newPlot(data.dataset.chart, figure.data, figure.layout, settings);
}
"""


@dataclass(frozen=True)
class ReportContent:
    """What a report shows: the simulation, its load curve, and typical steps operator by operator."""

    simulation: SimulationReport
    curve: LoadCurve
    steps: tuple[TypicalStep, ...]


def render(content: ReportContent) -> str:
    """The whole file. The same content gives the same text."""
    scenario = content.simulation.forecast.scenario
    parts = list(sections.all_sections(content.simulation, content.curve, content.steps))
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in parts)
    body = "".join(html for _, _, html in parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(scenario.name)} - silicast</title>
<style>
{style()}</style>
</head>
<body>
<header>
<h1>{escape(scenario.description or scenario.name)}</h1>
<p>{escape(_subtitle(content))}</p>
<nav>{links}</nav>
</header>
<main>
{sections.indicators(content.simulation)}
{body}
</main>
<footer>{_identity(content)}</footer>
<script>{get_plotlyjs()}</script>
<script>{DRAW}</script>
</body>
</html>
"""


def style() -> str:
    """The one style sheet."""
    return (files("reports") / "html" / "style.css").read_text(encoding="utf-8")


def _subtitle(content: ReportContent) -> str:
    scenario = content.simulation.forecast.scenario
    assumed = [text for _, text in approximation(scenario.deployment)]
    said = (describe_deployment(scenario), describe_engine(scenario), describe_load(scenario))
    return "; ".join((*assumed, *said))


def _identity(content: ReportContent) -> str:
    forecast = content.simulation.forecast
    versions = ", ".join(f"{name} {text}" for name, text in forecast.versions.items())
    return definitions(
        [
            ("made by", f"silicast {silicast_version()}"),
            ("input hash", forecast.input_hash),
            ("seed", str(forecast.scenario.workload.seed)),
            ("versions", versions),
        ]
    )
