"""Exact integer expressions in a closed grammar: the shapes, FLOP and bytes of an operator graph.

An expression is kept as a polynomial with integer coefficients over atoms, which are symbols and the calls
`//`, `ceil`, `min` and `max`. Equal polynomials are therefore equal objects however they were written, and
the printed form is canonical: the greatest common factor in front of the rest. Symbols stand for non-negative
integers; `a // b` is the floor and `ceil(a, b)` the ceiling of a / b. Text is read by
`model_graphs.expression_parser`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import gcd
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hardware_specs.records.errors import InputError, Problem, nearest

FloatArray = NDArray[np.float64]

#: calls of the grammar, and the number of arguments they take (None: one or more)
FUNCTIONS: Mapping[str, int | None] = {"//": 2, "ceil": 2, "min": None, "max": None}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that no polynomial can express, such as `T // 64`."""

    function: str
    arguments: tuple["Expression", ...]

    def __str__(self) -> str:
        if self.function == "//":
            return " // ".join(_enclosed(argument) for argument in self.arguments)
        return f"{self.function}({', '.join(str(argument) for argument in self.arguments)})"


Atom = str | Call
Monomial = tuple[Atom, ...]  # factors in order, repeated for powers; empty for the constant
Operand = Union["Expression", int]


@dataclass(frozen=True, slots=True)
class Expression:
    """A sum of integer coefficients times monomials, built by `parse`, `constant`, `symbol` or arithmetic."""

    terms: tuple[tuple[Monomial, int], ...]

    @classmethod
    def parse(cls, text: str) -> "Expression":
        """The expression that the text writes.

        Raises:
            InputError: the text is not in the grammar; the column says where.
        """
        from model_graphs.expression_parser import parse

        return parse(text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In files an expression is its text, or the bare integer where it is constant."""
        written = core_schema.plain_serializer_function_ser_schema(_written)
        return core_schema.no_info_plain_validator_function(_read, serialization=written)

    @property
    def symbols(self) -> frozenset[str]:
        """Every symbol that a value must be given for."""
        return frozenset().union(*(_atom_symbols(atom) for monomial, _ in self.terms for atom in monomial))

    @property
    def is_constant(self) -> bool:
        """Whether no symbol is left."""
        return all(not monomial for monomial, _ in self.terms)

    def __int__(self) -> int:
        assert self.is_constant, f"{self} is not a constant"
        return self.terms[0][1] if self.terms else 0

    def evaluate(self, bindings: Mapping[str, Any]) -> FloatArray:
        """Value in float64 (exact below 2^53), broadcast over the arrays that the symbols are bound to.

        Raises:
            InputError: a symbol has no value.
        """
        values = {name: np.asarray(value, dtype=np.float64) for name, value in bindings.items()}
        return np.asarray(self._value(values), dtype=np.float64)

    def exact(self, bindings: Mapping[str, int] | None = None) -> int:
        """Value in unbounded integers.

        Raises:
            InputError: a symbol has no value.
        """
        return int(self._value(bindings or {}))

    def _value(self, bindings: Mapping[str, Any]) -> Any:
        missing = sorted(self.symbols - bindings.keys())
        if missing:
            raise InputError(*(_unbound(name, bindings) for name in missing))
        return _compiled(self)(bindings)

    def substitute(self, replacements: Mapping[str, Operand]) -> "Expression":
        """The expression with symbols replaced by expressions."""
        return _sum(
            reduce(_product, (_replaced(atom, replacements) for atom in monomial), constant(coefficient))
            for monomial, coefficient in self.terms
        )

    def divided(self, divisor: int) -> "Expression":
        """The exact quotient.

        Raises:
            InputError: the divisor does not divide every coefficient.
        """
        if divisor < 1 or any(coefficient % divisor for _, coefficient in self.terms):
            raise InputError(
                Problem(requirement=f"{self} must divide into equal whole parts", given=str(divisor))
            )
        return Expression(tuple((monomial, coefficient // divisor) for monomial, coefficient in self.terms))

    def __add__(self, other: Operand) -> "Expression":
        return _sum((self, as_expression(other)))

    def __sub__(self, other: Operand) -> "Expression":
        return self + as_expression(other) * -1

    def __mul__(self, other: Operand) -> "Expression":
        return _product(self, as_expression(other))

    def __floordiv__(self, other: Operand) -> "Expression":
        return call("//", (self, as_expression(other)))

    def __radd__(self, other: int) -> "Expression":
        return self + other

    def __rsub__(self, other: int) -> "Expression":
        return constant(other) - self

    def __rmul__(self, other: int) -> "Expression":
        return self * other

    def __str__(self) -> str:
        return _text(self)


def _written(expression: Expression) -> int | str:
    return int(expression) if expression.is_constant else str(expression)


def _read(value: object) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, str):
        return Expression.parse(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return constant(value)
    raise InputError(
        Problem("must be a non-negative integer or the text of an expression", given=repr(value))
    )


def as_expression(value: Operand) -> Expression:
    """The operand itself, or the integer as an expression."""
    return value if isinstance(value, Expression) else constant(value)


def constant(value: int) -> Expression:
    """An integer as an expression."""
    return Expression((((), value),) if value else ())


def symbol(name: str) -> Expression:
    """A symbol as an expression."""
    return Expression((((name,), 1),))


ZERO = constant(0)
ONE = constant(1)


def ceil_div(value: Operand, divisor: Operand) -> Expression:
    """The least integer that is not below value / divisor."""
    return call("ceil", (as_expression(value), as_expression(divisor)))


def call(function: str, arguments: tuple[Expression, ...]) -> Expression:
    """The call, folded to a polynomial where it is one."""
    assert function in FUNCTIONS, function
    if function in ("//", "ceil"):
        return _quotient(function, *arguments)
    distinct = tuple(dict.fromkeys(arguments))
    if len(distinct) == 1:
        return distinct[0]
    if all(argument.is_constant for argument in distinct):
        return constant((min if function == "min" else max)(int(argument) for argument in distinct))
    return Expression((((Call(function, distinct),), 1),))


def _quotient(function: str, dividend: Expression, divisor: Expression) -> Expression:
    if divisor.is_constant:
        n = int(divisor)
        if n < 1:
            raise InputError(Problem(requirement="a divisor must be a positive integer", given=str(n)))
        if all(coefficient % n == 0 for _, coefficient in dividend.terms):
            return dividend.divided(n)
        if dividend.is_constant:
            return constant(int(dividend) // n if function == "//" else -(-int(dividend) // n))
    return Expression((((Call(function, (dividend, divisor)),), 1),))


def total(expressions: Iterable[Operand]) -> Expression:
    """The sum; zero for none."""
    return _sum(as_expression(expression) for expression in expressions)


def product(expressions: Iterable[Operand]) -> Expression:
    """The product; one for none."""
    return reduce(_product, (as_expression(expression) for expression in expressions), ONE)


def _sum(expressions: Iterable[Expression]) -> Expression:
    coefficients: dict[Monomial, int] = {}
    for expression in expressions:
        for monomial, coefficient in expression.terms:
            coefficients[monomial] = coefficients.get(monomial, 0) + coefficient
    return _normal(coefficients)


def _product(left: Expression, right: Expression) -> Expression:
    coefficients: dict[Monomial, int] = {}
    for left_monomial, left_coefficient in left.terms:
        for right_monomial, right_coefficient in right.terms:
            monomial = tuple(sorted(left_monomial + right_monomial, key=_atom_key))
            coefficients[monomial] = coefficients.get(monomial, 0) + left_coefficient * right_coefficient
    return _normal(coefficients)


def _normal(coefficients: Mapping[Monomial, int]) -> Expression:
    kept = ((monomial, coefficient) for monomial, coefficient in coefficients.items() if coefficient)
    return Expression(tuple(sorted(kept, key=lambda term: _monomial_key(term[0]))))


def _atom_key(atom: Atom) -> tuple[bool, str]:
    return isinstance(atom, Call), str(atom)


def _monomial_key(monomial: Monomial) -> tuple[int, list[tuple[bool, str]]]:
    return -len(monomial), [_atom_key(atom) for atom in monomial]


def _atom_symbols(atom: Atom) -> frozenset[str]:
    if isinstance(atom, str):
        return frozenset((atom,))
    return frozenset().union(*(argument.symbols for argument in atom.arguments))


def _replaced(atom: Atom, replacements: Mapping[str, Operand]) -> Expression:
    if isinstance(atom, str):
        return as_expression(replacements.get(atom, symbol(atom)))
    return call(atom.function, tuple(argument.substitute(replacements) for argument in atom.arguments))


def _text(expression: Expression) -> str:
    """The greatest common factor, times the rest in parentheses."""
    if not expression.terms:
        return "0"
    common = reduce(_shared, (monomial for monomial, _ in expression.terms))
    content = gcd(*(coefficient for _, coefficient in expression.terms))
    rest = [(_without(atoms, common), coefficient // content) for atoms, coefficient in expression.terms]
    if len(rest) == 1:
        sign = "0 - " if rest[0][1] < 0 else ""
        return sign + _factors(content, common)
    inner = _signed_sum(rest)
    return inner if content == 1 and not common else f"{_factors(content, common)}*({inner})"


def _signed_sum(terms: list[tuple[Monomial, int]]) -> str:
    ordered = sorted(terms, key=lambda term: term[1] < 0)  # stable: positive terms lead where there are any
    text = "" if ordered[0][1] > 0 else "0"
    for monomial, coefficient in ordered:
        sign = " - " if coefficient < 0 else " + "
        text += (sign if text else "") + _factors(abs(coefficient), monomial)
    return text


def _factors(coefficient: int, monomial: Monomial) -> str:
    if coefficient == 1 and len(monomial) == 1:
        return str(monomial[0])
    leading = [str(coefficient)] if coefficient != 1 or not monomial else []
    return "*".join(leading + [_factor(atom) for atom in monomial])


def _factor(atom: Atom) -> str:
    return f"({atom})" if isinstance(atom, Call) and atom.function == "//" else str(atom)


def _enclosed(expression: Expression) -> str:
    text = str(expression)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def _shared(left: Monomial, right: Monomial) -> Monomial:
    remaining, shared = list(right), []
    for atom in left:
        if atom in remaining:
            remaining.remove(atom)
            shared.append(atom)
    return tuple(shared)


def _without(monomial: Monomial, common: Monomial) -> Monomial:
    remaining = list(monomial)
    for atom in common:
        remaining.remove(atom)
    return tuple(remaining)


Evaluator = Callable[[Mapping[str, Any]], Any]


@lru_cache(maxsize=65536)
def _compiled(expression: Expression) -> Evaluator:
    """A closure over Python integers or numpy arrays alike."""
    terms = [
        ([_compiled_atom(a) for a in monomial], coefficient) for monomial, coefficient in expression.terms
    ]

    def evaluate(bindings: Mapping[str, Any]) -> Any:
        value: Any = 0
        for atoms, coefficient in terms:
            term: Any = coefficient
            for atom in atoms:
                term = term * atom(bindings)
            value = value + term
        return value

    return evaluate


def _compiled_atom(atom: Atom) -> Evaluator:
    if isinstance(atom, str):
        return lambda bindings: bindings[atom]
    arguments = [_compiled(argument) for argument in atom.arguments]
    combine = _COMBINE[atom.function]
    return lambda bindings: reduce(combine, [argument(bindings) for argument in arguments])


def _least(left: Any, right: Any) -> Any:
    return min(left, right) if isinstance(left, int) and isinstance(right, int) else np.minimum(left, right)


def _greatest(left: Any, right: Any) -> Any:
    return max(left, right) if isinstance(left, int) and isinstance(right, int) else np.maximum(left, right)


_COMBINE: Mapping[str, Callable[[Any, Any], Any]] = {
    "//": lambda dividend, divisor: dividend // divisor,
    "ceil": lambda dividend, divisor: -(-dividend // divisor),
    "min": _least,
    "max": _greatest,
}


def _unbound(name: str, bindings: Mapping[str, Any]) -> Problem:
    given = ", ".join(sorted(bindings)) or "no values"
    return Problem(
        requirement=f"symbol {name} must have a value", given=given, suggestion=nearest(name, bindings)
    )
