import pytest
import sympy
from torch.utils._sympy.functions import FloorDiv

from model_graphs.expressions import Expression
from reference_impl.symbols import expression

S0, S1 = sympy.symbols("s0 s1", integer=True, positive=True)
NAMES = {S0: "B", S1: "T"}


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (sympy.Integer(7), "7"),
        (S1, "T"),
        (S1 + 1, "T + 1"),
        (8 * S0 * S1, "8*B*T"),
        (S0**3, "B*B*B"),
        (2 * S1 * (S0 + S1), "2*T*(B + T)"),
        (FloorDiv(S1, sympy.Integer(64)), "T // 64"),
    ],
)
def test_a_symbolic_size_reads_as_the_same_expression(expr, text):
    assert expression(expr, NAMES) == Expression.parse(text)


def test_what_the_grammar_lacks_is_refused():
    with pytest.raises(TypeError, match="sum, product or floor"):
        expression(sympy.Mod(S0, 3), NAMES)
