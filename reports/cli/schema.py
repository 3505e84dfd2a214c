"""JSON Schema of a file format. Give its path to an editor for completion and checks while typing."""

import argparse
from importlib import import_module

from pydantic import TypeAdapter

from hardware_specs.records.errors import InputError, Problem, nearest
from reports.console import print_json

#: format -> where its model is defined
FORMATS = {
    "scenario": ("simulator.scenario.model", "Scenario"),
    "stack": ("simulator.stacks.model", "StackFile"),
    "model": ("model_graphs.architectures", "AnyConfig"),
    "device": ("hardware_specs.forms", "DeviceForm"),
    "dram": ("hardware_specs.forms", "DramForm"),
    "memory": ("hardware_specs.forms", "MemoryForm"),
    "link": ("hardware_specs.server_forms", "LinkForm"),
    "host": ("hardware_specs.host_forms", "HostForm"),
    "drive": ("hardware_specs.host_forms", "DriveForm"),
    "expander": ("hardware_specs.host_forms", "ExpanderForm"),
    "node": ("hardware_specs.server_forms", "NodeForm"),
    "cluster": ("hardware_specs.server_forms", "ClusterForm"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The name of the format."""
    parser.add_argument(
        "format",
        nargs="?",
        metavar="FORMAT",
        default="scenario",
        help=f"{', '.join(FORMATS)} (default: scenario)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    print_json(schema_of(args.format))
    return 0


def schema_of(name: str) -> dict[str, object]:
    """The JSON Schema of a format by its name.

    Raises:
        InputError: there is no such format.
    """
    if name not in FORMATS:
        requirement = f"format must be one of {', '.join(FORMATS)}"
        raise InputError(Problem(requirement=requirement, given=name, suggestion=nearest(name, FORMATS)))
    module, attribute = FORMATS[name]
    schema = TypeAdapter(getattr(import_module(module), attribute)).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
