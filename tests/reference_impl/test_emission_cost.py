"""Emission stays cheap: a process of its own for each architecture, its seconds and its memory."""

import json
import subprocess
import sys

import pytest

from model_graphs.configs import list_models

#: the model of each architecture with the most features a layer
WIDEST = {
    model.architecture: model.key
    for model in sorted(list_models(), key=lambda model: model.blueprint.hidden_size)
    if model.key == model.graph_key
}
SCRIPT = """
import json, resource, sys, time
from pathlib import Path
import torch
from model_graphs.configs import resolve_model
from model_graphs.graph_io import phases_of
from reference_impl.emission import emit
blueprint = resolve_model(sys.argv[1]).blueprint
seconds = []
for phase in phases_of(blueprint):
    start = time.process_time()
    emit(blueprint, phase)
    seconds.append(time.process_time() - start)
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss counts the process that started this one, which is larger after other tests
    kib = int(status.read_text().partition("VmHWM:")[2].split()[0])
else:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "kib": kib}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(WIDEST.values()))
def test_emitting_a_phase_takes_less_than_five_seconds_and_a_gigabyte(key):
    """Full width, one layer of each kind; the first phase pays for what PyTorch loads at first."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, key], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert max(found["seconds"]) < 5
    assert found["kib"] * 1024 < 1e9
