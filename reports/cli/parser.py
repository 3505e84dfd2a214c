"""An argument parser whose complaints take the project's one error form and name the nearest flag."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from hardware_specs.records.errors import InputError, Problem, nearest

EXIT_CODES = (
    "exit codes: 0 fine; 1 internal error; 2 bad input; 3 does not fit or misses an objective; "
    "4 a validation gate failed"
)


class Parser(argparse.ArgumentParser):
    """Raises `InputError` (exit code 2) where argparse would print its usage and leave."""

    def __init__(self, *, prog: str, description: str | None, epilog: str, usage: str | None = None) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments of a sub-command; every unknown one is a problem of its own."""
        args, unknown = self.parse_known_args(argv)
        if unknown:
            raise InputError(*(self._unknown(word) for word in unknown))
        return args

    def error(self, message: str) -> NoReturn:
        """Raise the message as bad input."""
        raise InputError(Problem(requirement=message, path=self.prog))

    def _unknown(self, word: str) -> Problem:
        flags = [flag for action in self._actions for flag in action.option_strings]
        flag = word.split("=")[0]
        requirement = (
            "flag must be a known one (see --help)" if word.startswith("-") else "is one argument too many"
        )
        return Problem(requirement=requirement, given=word, path=self.prog, suggestion=nearest(flag, flags))


def epilog() -> str:
    """The closing lines of every help text."""
    return EXIT_CODES


def add_json(parser: argparse.ArgumentParser) -> None:
    """The `--json` flag, the same everywhere."""
    parser.add_argument("--json", action="store_true", help="print JSON with sorted keys instead of tables")
