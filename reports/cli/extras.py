"""What a command needs beyond a plain installation."""

from importlib.util import find_spec

from hardware_specs.records.errors import InputError, Problem


def require_torch(command: str, otherwise: str) -> None:
    """Nothing where torch is installed; `otherwise` says what can be had without it.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("torch") is None:
        requirement = f"{command} needs torch: pip install 'silicast[reference]' ({otherwise})"
        raise InputError(Problem(requirement, "an installation without torch"))
