"""A self-contained HTML report of a scenario: load curve, step, memory, measured runs, accuracy, sources."""

import argparse

from reports.cli.flags import add_scenario_flags, output_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Scenario flags and the file to write."""
    add_scenario_flags(parser)
    parser.add_argument(
        "--html", metavar="FILE", type=output_path, required=True, help="file to write, about 5 MB"
    )


def run(args: argparse.Namespace) -> int:
    """Simulate, draw and write."""
    from reports.cli.assemble import scenario_from
    from reports.console import progress
    from reports.files import write_text
    from reports.html.page import ReportContent, render
    from reports.load_curve import load_curve
    from reports.operators import typical_steps
    from reports.simulation import simulate_report
    from simulator.predict import forecast
    from simulator.step_forecast import forecast_step

    scenario, assumed = scenario_from(args)
    with progress("simulating") as tick:
        simulation = simulate_report(scenario, assumed, forecast, tick)
    with progress("load curve") as tick:
        curve = load_curve(scenario, forecast, tick)
    steps = typical_steps(simulation.forecast, forecast_step)
    write_text(args.html, render(ReportContent(simulation, curve, steps)))
    print(f"wrote {args.html} (input hash {simulation.forecast.input_hash})")
    return 0
