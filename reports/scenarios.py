"""Where scenario files are found: a path, or the name of an example that ships with the package."""

from importlib.resources import as_file, files
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.yaml_reader import validate_file
from simulator.scenario.model import Scenario, TraceReplay


def load_scenario(name: str | Path) -> Scenario:
    """The scenario in a file, or in the shipped example of this name.

    A trace's path counts from the file's folder.

    Raises:
        InputError: there is no such file or example, or with every problem of the file.
    """
    path = Path(name)
    if path.is_file():
        return _with_trace_beside(validate_file(Scenario, path), path.parent)
    key = path.name.removesuffix(".yaml")
    examples = example_names()
    if key not in examples or path.parent != Path():
        requirement = f"scenario must be a file that exists or a shipped example ({', '.join(examples)})"
        raise InputError(Problem(requirement, str(name), suggestion=nearest(key, examples)))
    with as_file(files("reports") / "examples" / f"{key}.yaml") as example:
        return validate_file(Scenario, example, f"{key}.yaml")


def example_names() -> list[str]:
    """Names of the scenarios that ship with the package."""
    folder = files("reports") / "examples"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def _with_trace_beside(scenario: Scenario, folder: Path) -> Scenario:
    arrivals = scenario.workload.arrivals
    if not isinstance(arrivals, TraceReplay):
        return scenario
    moved = arrivals.model_copy(update={"path": str(folder / arrivals.path)})
    workload = scenario.workload.model_copy(update={"arrivals": moved})
    return scenario.model_copy(update={"workload": workload})
