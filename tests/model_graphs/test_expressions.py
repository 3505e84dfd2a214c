import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_specs.records.errors import InputError
from model_graphs.expressions import (
    Expression,
    as_expression,
    call,
    ceil_div,
    constant,
    product,
    symbol,
    total,
)

SYMBOLS = ("B", "S", "T", "R")
BINDINGS = st.fixed_dictionaries({name: st.integers(0, 50) for name in SYMBOLS})


def _combined(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    pairs = st.tuples(children, children)
    divisors = st.integers(1, 9).map(constant)
    return st.one_of(
        pairs.map(lambda pair: pair[0] + pair[1]),
        pairs.map(lambda pair: pair[0] - pair[1]),
        pairs.map(lambda pair: pair[0] * pair[1]),
        pairs.map(lambda pair: call("min", pair)),
        pairs.map(lambda pair: call("max", pair)),
        st.tuples(children, divisors).map(lambda pair: pair[0] // pair[1]),
        st.tuples(children, divisors).map(lambda pair: ceil_div(*pair)),
    )


LEAVES = st.one_of(st.sampled_from(SYMBOLS).map(symbol), st.integers(0, 99).map(constant))
EXPRESSIONS = st.recursive(LEAVES, _combined, max_leaves=12)


@settings(deadline=None)
@given(EXPRESSIONS)
def test_the_printed_form_reads_back_as_the_same_expression(expression: Expression) -> None:
    assert Expression.parse(str(expression)) == expression


@settings(deadline=None)
@given(EXPRESSIONS, EXPRESSIONS, BINDINGS)
def test_arithmetic_and_evaluation_commute(a: Expression, b: Expression, bindings: dict[str, int]) -> None:
    x, y = a.exact(bindings), b.exact(bindings)
    assert (a + b).exact(bindings) == x + y
    assert (a - b).exact(bindings) == x - y
    assert (a * b).exact(bindings) == x * y
    assert call("min", (a, b)).exact(bindings) == min(x, y)
    assert call("max", (a, b)).exact(bindings) == max(x, y)
    assert (a // 7).exact(bindings) == x // 7
    assert ceil_div(a, 7).exact(bindings) == -(-x // 7)


@settings(deadline=None)
@given(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS)
def test_equal_polynomials_are_equal_objects(a: Expression, b: Expression, c: Expression) -> None:
    assert a + b == b + a
    assert a * b == b * a
    assert a * (b + c) == a * b + a * c
    assert a - a == constant(0)


@settings(deadline=None)
@given(st.lists(BINDINGS, min_size=1, max_size=4))
def test_arrays_give_what_scalars_give(rows: list[dict[str, int]]) -> None:
    expression = Expression.parse("B*S*(3*T + 1) // 4 + ceil(R, 3)*min(B, S, 5)")
    columns = {name: np.array([row[name] for row in rows]) for name in SYMBOLS}
    assert list(expression.evaluate(columns)) == [expression.exact(row) for row in rows]


@settings(deadline=None)
@given(EXPRESSIONS, BINDINGS)
def test_substitution_of_values_is_evaluation(expression: Expression, bindings: dict[str, int]) -> None:
    replaced = expression.substitute(dict(bindings))
    assert replaced.is_constant
    assert int(replaced) == expression.exact(bindings)


def test_the_closed_form_of_v3_prefill_is_exact_and_prints_as_published() -> None:
    text = "16384*B*S*(305*S + 4470776)"
    expression = Expression.parse("4997120*B*S*S + 73249193984*B*S")
    assert str(expression) == text
    assert expression.exact({"B": 1, "S": 4096}) == 383_866_460_176_384
    assert float(expression.evaluate({"B": 1, "S": 4096})) == 383_866_460_176_384


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("7*B // 7", "B"),
        ("B // 4 * 3", "3*(B // 4)"),
        ("2 - B - S", "2 - B - S"),
        ("0 - 3*B", "0 - 3*B"),
        ("ceil(B*S, 128)*128", "128*ceil(B*S, 128)"),
        ("min(B, B)", "B"),
        ("max(2, 9)", "9"),
        ("(B + S)*(B - S)", "B*B - S*S"),
        ("(B+S) // (2*T)", "(B + S) // (2*T)"),
    ],
)
def test_the_canonical_form_is_short(text: str, canonical: str) -> None:
    assert str(Expression.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "column", "word"),
    [
        ("B +", 4, "must have an integer"),
        ("3 $ 4", 3, "must hold"),
        ("(B", 3, "closing parenthesis"),
        ("ceil(B)", 1, "2 arguments"),
        ("B // 0", 3, "positive"),
        ("-B", 1, "must have an integer"),
        ("B S", 3, "operator or the end"),
        ("open(B)", 5, "operator or the end"),
        ("B.real", 2, "must hold"),
        ("B ** 2", 4, "must have an integer"),
        ("", 1, "must have an integer"),
        ("(" * 200, 101, "nest"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_column(text: str, column: int, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        Expression.parse(text)
    assert caught.value.problems[0].column == column


def test_every_unbound_symbol_is_named() -> None:
    with pytest.raises(InputError) as caught:
        Expression.parse("B*S + T").evaluate({"B": 1, "s": 2})
    assert [problem.suggestion for problem in caught.value.problems] == ["", ""]
    assert "symbol S" in str(caught.value)
    assert "symbol T" in str(caught.value)


def test_division_into_equal_parts_is_exact_or_refused() -> None:
    assert Expression.parse("128*B").divided(8) == Expression.parse("16*B")
    with pytest.raises(InputError, match="equal whole parts; given 3"):
        Expression.parse("128*B").divided(3)


def test_sums_and_products_of_nothing_are_neutral() -> None:
    assert total([]) == constant(0)
    assert product([]) == constant(1)
    assert as_expression(3) + 4 == constant(7)
