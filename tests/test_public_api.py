import subprocess
import sys
from pathlib import Path

import pytest

import silicast

ROOT = Path(silicast.__file__).parent
API = [
    "Deployment",
    "DoesNotFitError",
    "Estimate",
    "Forecast",
    "GateFailedError",
    "Grade",
    "InfeasibleError",
    "InputError",
    "ModelRecord",
    "NoFeasiblePlanError",
    "Scenario",
    "SilicastError",
    "Stack",
    "StepForecast",
    "SystemSpec",
    "Workload",
    "__version__",
    "forecast",
    "forecast_step",
    "list_models",
    "list_stacks",
    "list_systems",
    "load_scenario",
    "load_stack",
    "load_system",
    "main",
    "resolve_model",
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
