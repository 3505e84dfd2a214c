"""From the symbolic integers of a trace to the closed expressions of graph files. The only user of sympy."""

from collections.abc import Mapping
from functools import reduce
from operator import add, mul
from typing import Any

import sympy
import torch
from torch.utils._sympy.functions import FloorDiv

from model_graphs.expressions import Expression, as_expression, constant, symbol

Names = Mapping[sympy.Symbol, str]


def dimension(size: int | torch.SymInt, names: Names) -> Expression:
    """The size as an expression of the graph's symbols."""
    return _expression(size.node.expr, names) if isinstance(size, torch.SymInt) else constant(int(size))


def _expression(expr: Any, names: Names) -> Expression:
    if expr.is_Integer:
        return constant(int(expr))
    if expr.is_Symbol:
        return symbol(names[expr])
    if not isinstance(expr, sympy.Add | sympy.Mul | sympy.Pow | FloorDiv):
        raise TypeError(f"a shape must be a sum, product or floor of quotients, which {expr} is not")
    if isinstance(expr, sympy.Pow):
        base, power = expr.args
        return reduce(mul, [_expression(base, names)] * int(power), constant(1))
    arguments = [_expression(argument, names) for argument in expr.args]
    if isinstance(expr, FloorDiv):
        return arguments[0] // arguments[1]
    return reduce(
        add if isinstance(expr, sympy.Add) else mul, arguments, as_expression(0 if expr.is_Add else 1)
    )
