"""Which block of the graph a module belongs to, and what it is called inside."""

from torch import nn


def place(root: nn.Module, path: str) -> tuple[tuple[str, int], str]:
    """The block of a module, which the outermost module above it names, and the module's name inside."""
    parts = path.split(".")
    for depth in range(1, len(parts) + 1):
        block = getattr(root.get_submodule(".".join(parts[:depth])), "block", None)
        if block is not None:
            return block, ".".join(parts[depth:]) or parts[-1]
    raise AssertionError(f"{path} belongs to no block")
