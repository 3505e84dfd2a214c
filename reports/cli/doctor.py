"""Versions, where the packages come from and what shadows them, what data is found; exit code 2 if wrong."""

import argparse
import os
import platform
from importlib.util import find_spec
from pathlib import Path

from reports.cli.parser import add_json
from reports.console import console, print_json
from reports.tables import definition, table
from reports.versions import EXTRAS, REQUIRED, installed_version, silicast_version

PACKAGES = ("hardware_specs", "model_graphs", "reference_impl", "simulator", "reports")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only `--json`."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 2 when a package is shadowed or a requirement is missing."""
    findings = examine()
    problems = findings["problems"]
    assert isinstance(problems, list)
    if args.json:
        print_json(findings)
    else:
        _show(findings)
    return 2 if problems else 0


def examine() -> dict[str, object]:
    """Everything that `doctor` knows, as plain data."""
    packages = {name: package_folder(name) for name in PACKAGES}
    requirements = {name: installed_version(name) for name in REQUIRED}
    extras = {extra: {name: installed_version(name) for name in names} for extra, names in EXTRAS.items()}
    return {
        "silicast": silicast_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": packages,
        "requirements": requirements,
        "extras": extras,
        "measured_data": measured_data(),
        "problems": shadowed(packages)
        + [f"{name} is not installed" for name, v in requirements.items() if v is None],
    }


def package_folder(name: str) -> str:
    """The folder that a package would be imported from; empty when it is not found."""
    spec = find_spec(name)
    return str(Path(spec.origin).parent) if spec and spec.origin else ""


def shadowed(packages: dict[str, str]) -> list[str]:
    """One line for each package that does not lie beside this one, so is not ours."""
    home = Path(__file__).resolve().parents[2]
    return [
        f"package {name} comes from {folder or 'nowhere'}, not from {home}: it shadows silicast's own"
        for name, folder in packages.items()
        if not folder or Path(folder).resolve().parent != home
    ]


def measured_data() -> dict[str, object]:
    """Where measured runs are looked for and which files are there."""
    folder = os.environ.get("SILICAST_DATA", "")
    found = sorted(str(path.relative_to(folder)) for path in Path(folder).glob("*/*.csv")) if folder else []
    return {"SILICAST_DATA": folder or None, "files": found}


def _show(findings: dict[str, object]) -> None:
    out = console()
    head = [(name, str(findings[name])) for name in ("silicast", "python", "platform", "cores")]
    out.print(definition("This installation", head))
    packages, requirements, extras = (findings[key] for key in ("packages", "requirements", "extras"))
    assert isinstance(packages, dict)
    assert isinstance(requirements, dict)
    assert isinstance(extras, dict)
    out.print(table("Packages", ("package", "folder"), packages.items()))
    rows = [(name, version or "missing", "required") for name, version in requirements.items()]
    rows += [
        (n, v or "not installed", f"extra [{extra}]")
        for extra, names in extras.items()
        for n, v in names.items()
    ]
    out.print(table("Requirements", ("distribution", "version", "needed for"), rows))
    data = findings["measured_data"]
    assert isinstance(data, dict)
    files = ", ".join(data["files"]) or "none found (only `validate` and tests need them)"
    out.print(definition("Measured data", [("SILICAST_DATA", str(data["SILICAST_DATA"])), ("files", files)]))
    problems = findings["problems"]
    assert isinstance(problems, list)
    out.print("\n".join(f"PROBLEM  {line}" for line in problems) or "No problem found.", markup=False)
