"""Installs a built wheel into a fresh environment, away from the source, and runs the main job with it.

Usage: python tests/wheel/check_wheel.py dist/silicast-*.whl
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def main(wheel: Path) -> None:
    """Exit code 0 when the installed wheel answers from its own package data."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        constraints = REPOSITORY / "constraints.txt"
        run(python, "-m", "pip", "install", "--quiet", "-c", str(constraints), str(wheel), cwd=folder)
        command = Path(folder) / "bin" / "silicast"
        systems = json.loads(run(command, "systems", "list", "--json", cwd=folder))
        assert systems["systems"], "the wheel carries no systems"
        answer = json.loads(run(command, "simulate", "deepseek-r1-8xh200", "--json", cwd=folder))
        assert answer["metrics"]["tpot_ms"]["value"] > 0
        doctor = run(command, "doctor", cwd=folder)
        assert str(REPOSITORY) not in doctor, "the wheel reads the source tree"
    print(f"{wheel.name}: installs, lists {len(systems['systems'])} systems, simulates the demo")


def run(*command: object, cwd: str) -> str:
    """Standard output of the command; its failure is ours."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
