"""Graphs of models that do not ship: emitted when they are asked for, kept by content in the user's folder.

The folder is the one that the environment variable `SILICAST_GRAPHS` names; without it a temporary one that
lives as long as the process. File names carry a hash of the model's figures, so that a graph is never that of
another model.
"""

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from hardware_specs.records.errors import InputError, Problem
from model_graphs.configs import ModelRecord
from model_graphs.graph_io import GRAPHS_VARIABLE, is_emitted, own_graphs, phases_of
from reports.console import progress
from reports.emitted import emit_phases, write_graphs


def ensure_emitted(record: ModelRecord) -> None:
    """Emit what graphs of the model there are not, so that `load_graph` finds them.

    Raises:
        InputError: torch is not installed, or the folder cannot be written.
    """
    missing = [phase for phase in phases_of(record.blueprint) if not is_emitted(record, phase)]
    if not missing:
        return
    if find_spec("torch") is None:
        requirement = (
            f"graphs of {record.key} must be emitted: install torch (silicast[reference]), or run "
            f"`silicast emit MODEL --out FOLDER` where torch is and set {GRAPHS_VARIABLE}=FOLDER"
        )
        raise InputError(Problem(requirement, f"no graph of {', '.join(missing)}", path="model"))
    folder = _folder()
    with progress("emitting") as tick:
        write_graphs(folder, emit_phases(record, missing, tick))


def _folder() -> Path:
    """The user's folder, made where it is not there; else a temporary one until this process ends."""
    folder = own_graphs()
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="silicast-graphs-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[GRAPHS_VARIABLE] = str(folder)
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        requirement = "must name a folder that can be made"
        problem = Problem(requirement, f"{folder}: {error.strerror}", path=GRAPHS_VARIABLE)
        raise InputError(problem) from error
    return folder
