"""From the symbolic integers of a trace to the closed expressions of graph files. The only user of sympy."""

from collections.abc import Mapping
from functools import reduce
from operator import mul
from typing import Any

import sympy
import torch
from torch.utils._sympy.functions import FloorDiv

from model_graphs.expressions import ONE, Expression, constant, product, symbol, total

Names = Mapping[sympy.Symbol, str]


def dimension(size: int | torch.SymInt, names: Names) -> Expression:
    """The size as an expression of the graph's symbols."""
    return expression(size.node.expr, names) if isinstance(size, torch.SymInt) else constant(int(size))


def expression(expr: Any, names: Names) -> Expression:
    """The sympy expression in the closed grammar, its symbols renamed.

    Raises:
        TypeError: it is not a sum, product, whole power or floor of a quotient.
    """
    if expr.is_Integer:
        return constant(int(expr))
    if expr.is_Symbol:
        return symbol(names[expr])
    if isinstance(expr, sympy.Pow):
        base, power = expr.args
        return reduce(mul, [expression(base, names)] * int(power), ONE)
    arguments = [expression(argument, names) for argument in expr.args]
    if isinstance(expr, sympy.Add):
        return total(arguments)
    if isinstance(expr, sympy.Mul):
        return product(arguments)
    if isinstance(expr, FloorDiv):
        return arguments[0] // arguments[1]
    raise TypeError(f"a size must be a sum, product or floor of a quotient, which {expr} is not")
