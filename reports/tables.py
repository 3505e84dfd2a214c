"""Building blocks of the printed tables: bounded width, numbers to the right, words folded, never cut."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    fold_first: bool = False,
) -> Table:
    """A table; columns whose heading starts with `>` are right-aligned, they and the first never wrap."""
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    made.caption, made.caption_justify = caption or None, "left"
    for index, heading in enumerate(columns):
        numeric = heading.startswith(">")
        justify: JustifyMethod = "right" if numeric else "left"
        whole = numeric or (index == 0 and not fold_first)
        made.add_column(heading.removeprefix(">"), justify=justify, no_wrap=whole, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def definition(title: str, entries: Iterable[tuple[str, str]]) -> Table:
    """A table of names and what they are, without a heading."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    made.add_column(style="cyan", no_wrap=True)
    made.add_column(overflow="fold")
    for name, what in entries:
        made.add_row(Text(name), Text(what))
    return made
