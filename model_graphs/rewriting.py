"""Rewriting a block: a pass replaces, splits and inserts operators while dependencies follow."""

from collections.abc import Iterable
from dataclasses import replace

from model_graphs.graph import Operator


def part_name(operator: Operator, part: str) -> str:
    """Name of an operator that is part of another's layer; the head is a block, and gives no prefix."""
    return part if operator.component == "head" else f"{operator.name}.{part}"


class BlockRewriter:
    """New operators of a block, and which of them holds the result of each old one."""

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.holder: dict[int, int] = {-1: -1}

    def append(self, operator: Operator, deps: Iterable[int]) -> int:
        """Position of the operator, which waits for the new operators at `deps`."""
        self.operators.append(replace(operator, deps=tuple(sorted(set(deps)))))
        return len(self.operators) - 1

    def moved(self, operator: Operator) -> list[int]:
        """Where the results that an old operator waits for are now."""
        return [self.holder[dep] for dep in operator.deps]
