"""One deployment under one workload: latency, throughput, energy, cost, memory, with evidence.

Give a scenario file, the name of a shipped example, or flags alone; flags override the file.
"""

import argparse
from typing import TYPE_CHECKING

from hardware_specs.records.errors import NoFeasiblePlanError
from reports.cli.flags import add_scenario_flags
from reports.cli.parser import add_json

if TYPE_CHECKING:
    from simulator.forecast import Assumption
    from simulator.scenario.model import Scenario


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Scenario flags, the memory fit alone, JSON."""
    add_scenario_flags(parser)
    parser.add_argument("--memory", action="store_true", help="only the memory fit, without a simulation")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the simulation; 3 when an objective is missed."""
    from reports.cli.assemble import scenario_from

    scenario, assumed = scenario_from(args)
    return _memory(args, scenario) if args.memory else _simulate(args, scenario, assumed)


def _memory(args: argparse.Namespace, scenario: "Scenario") -> int:
    from reports.console import console, print_json
    from reports.forecast_json import memory_json
    from reports.forecast_tables import memory_table
    from simulator.prepared import prepare

    fit = prepare(scenario.deployment).memory
    if args.json:
        print_json({"deployment": scenario.deployment.model_dump(mode="json"), "memory": memory_json(fit)})
    else:
        console().print(memory_table(fit))
    return 0


def _simulate(args: argparse.Namespace, scenario: "Scenario", assumed: "tuple[Assumption, ...]") -> int:
    from reports.console import console, print_json, progress
    from reports.forecast_json import simulation_json
    from reports.forecast_tables import simulation_tables
    from reports.simulation import simulate_report
    from simulator.predict import forecast

    with progress("simulating") as tick:
        report = simulate_report(scenario, assumed, forecast, tick)
    if args.json:
        print_json(simulation_json(report))
    else:
        out = console()
        for made in simulation_tables(report):
            out.print(made)
    missed = [str(check) for check in report.objectives if not check.met]
    if missed:
        raise NoFeasiblePlanError("objectives are missed: " + "; ".join(missed), report.forecast.binding)
    return 0
