import subprocess
import sys
from pathlib import Path

import pytest

import silicast

ROOT = Path(silicast.__file__).parent
API = [
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


def test_the_public_api_is_this_list() -> None:
    assert silicast.__all__ == API


@pytest.mark.parametrize("name", API)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(silicast, name) is not None


def test_a_name_outside_the_list_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulate_everything'"):
        silicast.simulate_everything  # noqa: B018


def test_importing_silicast_imports_no_package_of_it() -> None:
    code = "import sys, silicast; print([m for m in sys.modules if m.split('.')[0] in silicast._PACKAGES])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def test_a_package_that_shadows_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "simulator").mkdir()
    (tmp_path / "simulator" / "__init__.py").touch()
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}];"
    code = path + "import silicast; sys.exit(silicast.main())"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert run.returncode == 2
    assert f"{tmp_path / 'simulator'}, which shadows it" in run.stderr


def test_a_forecast_is_made_with_the_public_names_alone() -> None:
    scenario = silicast.Scenario(
        name="four clients",
        deployment=silicast.Deployment(model="deepseek-r1", system="h200_sxm"),
        workload=silicast.Workload(
            arrivals=silicast.ClosedLoop(concurrency=4, requests=8),
            input_tokens=silicast.Lengths(mean=1024),
            output_tokens=silicast.Lengths(mean=32),
        ),
    )
    tpot = silicast.forecast(scenario).metrics["tpot_ms"]
    assert isinstance(tpot, silicast.Estimate)
    assert tpot.low < tpot.value < tpot.high
