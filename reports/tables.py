"""Building blocks of the printed tables: bounded width, numbers to the right, words folded, never cut."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    fold_first: bool = False,
) -> Group:
    """A table; columns whose heading starts with `>` are right-aligned, they and the first never wrap."""
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for index, heading in enumerate(columns):
        numeric = heading.startswith(">")
        justify: JustifyMethod = "right" if numeric else "left"
        whole = numeric or (index == 0 and not fold_first)
        made.add_column(heading.removeprefix(">"), justify=justify, no_wrap=whole, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return _titled(title, made, caption)


def definition(title: str, entries: Iterable[tuple[str, str]]) -> Group:
    """Names and what they are, without a heading."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="cyan", no_wrap=True)
    made.add_column(overflow="fold")
    for name, what in entries:
        made.add_row(Text(name), Text(what))
    return _titled(title, made, "")


def _titled(title: str, made: Table, caption: str) -> Group:
    """The title above, the caption below in the full width, and an empty line to what follows."""
    parts: list[RenderableType] = [Text(title, style="bold")] if title else []
    parts.append(made)
    if caption:
        parts.append(Text(caption, style="italic"))
    return Group(*parts, Text())
