"""The error tree. Each level is something a caller may want to catch; each leaf has one exit code.

```
SilicastError
├── InputError (ValueError)          exit 2   one or more Problems, all of a file at once
├── InfeasibleError                  exit 3   nothing meets the constraints; says which one binds
│   ├── DoesNotFitError                       memory: needed and available bytes, nearest fit
│   └── NoFeasiblePlanError
└── GateFailedError                  exit 4   a validation gate was not met
```
A bug is an `assert` or any other exception: exit 1.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input: where, what must hold, what was given, and the nearest right answer."""

    requirement: str
    given: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None
    path: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        where = ":".join(
            str(part) for part in (self.file or None, self.line, self.column) if part is not None
        )
        given = f"; given {self.given}" if self.given else ""
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return "  ".join(part for part in (where, self.path, f"{self.requirement}{given}{hint}") if part)


def nearest(word: str, choices: Iterable[str]) -> str:
    """The choice that `word` begins, else the one that looks most like it; empty when none is close."""
    known = list(choices)
    begun = [choice for choice in known if choice.startswith(word)] if len(word) > 1 else []
    found = get_close_matches(word, begun or known, n=1, cutoff=0.0 if begun else 0.5)
    return found[0] if found else ""


class SilicastError(Exception):
    """Every error that silicast raises on purpose."""

    exit_code = 1


class InputError(SilicastError, ValueError):
    """The input is wrong. Carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class InfeasibleError(SilicastError):
    """The input is right and nothing meets its constraints."""

    exit_code = 3


class DoesNotFitError(InfeasibleError):
    """The deployment needs more memory per device than there is."""

    def __init__(self, what: str, needed_bytes: float, available_bytes: float, nearest_fit: str = "") -> None:
        self.what = what
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        self.nearest_fit = nearest_fit
        hint = f"; nearest fit: {nearest_fit}" if nearest_fit else ""
        super().__init__(
            f"{what} needs {needed_bytes:,.0f} bytes per device ({needed_bytes / 2**30:,.1f} GiB); "
            f"{available_bytes:,.0f} bytes ({available_bytes / 2**30:,.1f} GiB) are available{hint}"
        )


class NoFeasiblePlanError(InfeasibleError):
    """No configuration meets the objectives and limits; `binding_constraint` says which one stops it."""

    def __init__(self, message: str, binding_constraint: str) -> None:
        self.binding_constraint = binding_constraint
        super().__init__(f"{message}; binding constraint: {binding_constraint}")


class GateFailedError(SilicastError):
    """A validation gate that the user asked for was not met."""

    exit_code = 4


def exit_code_of(run: Callable[[], int]) -> int:
    """The exit code of a command: its own, or that of the error it ends with, shown on standard error."""
    try:
        return run()
    except SilicastError as error:
        label = "" if isinstance(error, InputError) else "silicast: "
        print(f"{label}{error}", file=sys.stderr)
        return error.exit_code
