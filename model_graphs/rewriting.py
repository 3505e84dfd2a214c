"""Rewriting a block: a pass replaces, splits and inserts operators while dependencies follow."""

from collections.abc import Iterable
from dataclasses import replace

from model_graphs.graph import Operator, Tensor
from model_graphs.sharding import activation_bytes


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


def quantize(consumer: Operator, x: Tensor, dtype: str, reads: int = 1) -> Operator:
    """The operator that quantises an operand of its consumer, after which it is named, in so many reads."""
    inputs, outputs = (replace(x, name="x"),), (replace(x, dtype=dtype, name=""),)
    return Operator(
        name=part_name(consumer, "quantize"),
        kind="quantize",
        inputs=inputs,
        outputs=outputs,
        deps=(),
        activation_read_bytes=activation_bytes(inputs) * reads,
        activation_write_bytes=activation_bytes(outputs),
        place=consumer.place,
        component=consumer.component,
    )
