"""Tests of this folder use the tiny models of the folder above, and need the reference extra as those do."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
