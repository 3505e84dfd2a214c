"""Where scenario files are found: a path, or the name of an example that ships with the package."""

from importlib.resources import as_file, files
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem, nearest
from simulator.scenario.model import Scenario


def find_scenario(name: str) -> Scenario:
    """The scenario in a file, or in the shipped example of this name.

    Raises:
        InputError: there is no such file or example, or it is not a right scenario.
    """
    from simulator.predict import load_scenario

    if Path(name).is_file():
        return load_scenario(Path(name))
    examples = example_names()
    key = Path(name).name.removesuffix(".yaml")
    if key not in examples or Path(name).parent != Path():
        listed = ", ".join(examples)
        requirement = f"scenario must be a file that exists or a shipped example ({listed})"
        raise InputError(Problem(requirement=requirement, given=name, suggestion=nearest(key, examples)))
    with as_file(files("reports") / "examples" / f"{key}.yaml") as path:
        return load_scenario(path)


def example_names() -> list[str]:
    """Names of the scenarios that ship with the package."""
    folder = files("reports") / "examples"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )
