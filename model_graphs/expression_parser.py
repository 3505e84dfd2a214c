"""Recursive-descent parser of the closed grammar of expressions.

```
sum     = product {("+" | "-") product}
product = factor {("*" | "//") factor}
factor  = integer | symbol | ("ceil" | "min" | "max") "(" sum {"," sum} ")" | "(" sum ")"
```
`ceil` takes two arguments. Nothing is evaluated as Python, and nothing outside the grammar is read.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from hardware_specs.records.errors import InputError, Problem
from model_graphs.expressions import FUNCTIONS, Expression, call, constant, symbol

_TOKEN = re.compile(r"\s*(?:(?P<integer>\d+)|(?P<name>[A-Za-z_]\w*)|(?P<mark>//|[-+*(),]))", re.ASCII)
_MAX_DEPTH = 100


@lru_cache(maxsize=65536)
def parse(text: str) -> Expression:
    """The expression that the text writes.

    Raises:
        InputError: the text is not in the grammar; the column says where.
    """
    parser = _Parser(text, _tokens(text))
    expression = parser.sum()
    parser.expect("end", "an operator or the end")
    return expression


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # integer, name, end, or the mark itself
    text: str
    column: int


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise _error(text, start, "must hold integers, symbols, + - * // ( ) , ceil min max")
        kind = str(match.lastgroup)
        word = match[kind]
        tokens.append(_Token(word if kind == "mark" else kind, word, match.start(kind)))
        position = match.end()
    return [*tokens, _Token("end", "", end)]


def _error(text: str, position: int, requirement: str) -> InputError:
    found = text[position : position + 12] or "the end"
    return InputError(
        Problem(requirement=f"expression {text!r} {requirement}", given=repr(found), column=position + 1)
    )


class _Parser:
    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def sum(self) -> Expression:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _error(self._text, self._tokens[self._next].column, f"must nest at most {_MAX_DEPTH} deep")
        value = self._product()
        while sign := self._accept("+", "-"):
            right = self._product()
            value = value + right if sign.kind == "+" else value - right
        self._depth -= 1
        return value

    def expect(self, kind: str, wanted: str) -> _Token:
        token = self._accept(kind)
        if token is None:
            raise _error(self._text, self._tokens[self._next].column, f"must have {wanted} there")
        return token

    def _product(self) -> Expression:
        value = self._factor()
        while operator := self._accept("*", "//"):
            right = self._factor()
            value = value * right if operator.kind == "*" else self._called("//", (value, right), operator)
        return value

    def _factor(self) -> Expression:
        if integer := self._accept("integer"):
            return constant(int(integer.text))
        if name := self._accept("name"):
            return self._function(name) if name.text in FUNCTIONS else symbol(name.text)
        self.expect("(", "an integer, a symbol or a parenthesis")
        value = self.sum()
        self.expect(")", "a closing parenthesis")
        return value

    def _function(self, name: _Token) -> Expression:
        self.expect("(", f"an opening parenthesis after {name.text}")
        arguments = [self.sum()]
        while self._accept(","):
            arguments.append(self.sum())
        self.expect(")", "a comma or a closing parenthesis")
        return self._called(name.text, tuple(arguments), name)

    def _called(self, function: str, arguments: tuple[Expression, ...], at: _Token) -> Expression:
        wanted = FUNCTIONS[function]
        if wanted is not None and len(arguments) != wanted:
            raise _error(self._text, at.column, f"must give {function} {wanted} arguments")
        try:
            return call(function, arguments)
        except InputError as error:
            raise _error(self._text, at.column, error.problems[0].requirement) from error

    def _accept(self, *kinds: str) -> _Token | None:
        token = self._tokens[self._next]
        if token.kind not in kinds:
            return None
        self._next += 1
        return token
