"""silicast: what an LLM deployment will do before anyone buys the hardware.

This module is the whole public API; everything else may change without notice.
"""

__version__ = "0.1.0"


def main() -> int:
    """Exit code of the `silicast` command run with the process's arguments."""
    from reports.cli.main import main as run

    return run()
