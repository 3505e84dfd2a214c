"""silicast: what an LLM deployment will do before anyone buys the hardware.

This module is the whole public API; everything else may change without notice. Names are imported when they
are first used, so that `import silicast` costs nothing. Times are seconds and sizes bytes unless a name says
otherwise; every metric is an `Estimate` with a 90% interval and a grade.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardware_specs.library import list_systems, load_system
    from hardware_specs.parts import SystemSpec
    from hardware_specs.records.errors import (
        DoesNotFitError,
        GateFailedError,
        InfeasibleError,
        InputError,
        NoFeasiblePlanError,
        SilicastError,
    )
    from hardware_specs.records.evidence import Estimate, Grade
    from model_graphs.configs import ModelRecord, list_models, resolve_model
    from model_graphs.totals import GraphSummary, graph_summary
    from reports.scenarios import load_scenario
    from simulator.forecast import Forecast
    from simulator.measured.validation import ValidationReport, validate_measured
    from simulator.predict import forecast
    from simulator.scenario.model import (
        Burst,
        ClosedLoop,
        Deployment,
        Lengths,
        Objectives,
        Poisson,
        Scenario,
        TraceReplay,
        Workload,
    )
    from simulator.stacks.library import Stack, list_stacks, load_stack
    from simulator.step_forecast import StepForecast, forecast_step

__version__ = "0.1.0"

__all__ = [
    "Burst",
    "ClosedLoop",
    "Deployment",
    "DoesNotFitError",
    "Estimate",
    "Forecast",
    "GateFailedError",
    "Grade",
    "GraphSummary",
    "InfeasibleError",
    "InputError",
    "Lengths",
    "ModelRecord",
    "NoFeasiblePlanError",
    "Objectives",
    "Poisson",
    "Scenario",
    "SilicastError",
    "Stack",
    "StepForecast",
    "SystemSpec",
    "TraceReplay",
    "ValidationReport",
    "Workload",
    "__version__",
    "forecast",
    "forecast_step",
    "graph_summary",
    "list_models",
    "list_stacks",
    "list_systems",
    "load_scenario",
    "load_stack",
    "load_system",
    "main",
    "resolve_model",
    "validate_measured",
]

_MODULES = {
    "hardware_specs.library": ("list_systems", "load_system"),
    "hardware_specs.parts": ("SystemSpec",),
    "hardware_specs.records.errors": (
        "DoesNotFitError",
        "GateFailedError",
        "InfeasibleError",
        "InputError",
        "NoFeasiblePlanError",
        "SilicastError",
    ),
    "hardware_specs.records.evidence": ("Estimate", "Grade"),
    "model_graphs.configs": ("ModelRecord", "list_models", "resolve_model"),
    "model_graphs.totals": ("GraphSummary", "graph_summary"),
    "reports.scenarios": ("load_scenario",),
    "simulator.forecast": ("Forecast",),
    "simulator.measured.validation": ("ValidationReport", "validate_measured"),
    "simulator.predict": ("forecast",),
    "simulator.scenario.model": (
        "Burst",
        "ClosedLoop",
        "Deployment",
        "Lengths",
        "Objectives",
        "Poisson",
        "Scenario",
        "TraceReplay",
        "Workload",
    ),
    "simulator.stacks.library": ("Stack", "list_stacks", "load_stack"),
    "simulator.step_forecast": ("StepForecast", "forecast_step"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_PACKAGES = ("hardware_specs", "model_graphs", "reference_impl", "simulator", "reports")


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'silicast' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def main() -> int:
    """Exit code of the `silicast` command run with the process's arguments."""
    strangers = [line for name in _PACKAGES if (line := _stranger(name))]
    if strangers:
        print("\n".join(strangers), file=sys.stderr)
        return 2
    from reports.cli.main import main as run

    return run()


def _stranger(package: str) -> str:
    """One line when the package would come from another folder than this module, else nothing."""
    home = Path(__file__).resolve().parent
    spec = find_spec(package)
    folder = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if folder == home / package:
        return ""
    return f"package {package} must come from {home}; given {folder or 'nothing'}, which shadows it"


if __name__ == "__main__":
    raise SystemExit(main())
