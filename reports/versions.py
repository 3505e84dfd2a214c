"""Versions of silicast and of what it runs on, read from installed metadata without importing anything."""

import platform
from importlib.metadata import PackageNotFoundError, version

REQUIRED = ("numpy", "pandas", "plotly", "pydantic", "pyyaml", "rich", "ruamel.yaml", "simpy")
EXTRAS = {
    "reference": ("torch", "safetensors", "sympy"),
    "measure": ("nvidia-ml-py",),
    "silicon": ("aiconfigurator-core", "pyarrow", "scipy"),
}


def silicast_version() -> str:
    """Version of the installed distribution, or a phrase that says that there is none."""
    return installed_version("silicast") or "of a source tree that is not installed"


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def runtime_versions() -> dict[str, str]:
    """What a result depends on besides its input: silicast, Python and the numeric libraries."""
    found = {name: installed_version(name) for name in ("silicast", "numpy", "simpy")}
    return {"python": platform.python_version()} | {name: text for name, text in found.items() if text}


def reference_versions() -> dict[str, str]:
    """What a result of the reference implementation depends on."""
    torch = installed_version("torch")
    return runtime_versions() | ({"torch": torch} if torch else {})
