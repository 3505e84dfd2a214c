"""Small pieces of HTML: everything that comes from data is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape


def section(anchor: str, title: str, *parts: str, note: str = "") -> str:
    """A section with its heading and, in small type, what the reader must know about it."""
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{said}{"".join(parts)}</section>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways on a narrow screen; columns whose heading starts with `>` are numbers."""
    classes = [' class="n"' if column.startswith(">") else "" for column in columns]
    head = "".join(
        f"<th{c}>{escape(name.removeprefix('>'))}</th>" for c, name in zip(classes, columns, strict=True)
    )
    body = "".join(f"<tr>{_cells(classes, row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(classes: Sequence[str], row: Sequence[str]) -> str:
    return "".join(f"<td{c}>{escape(cell)}</td>" for c, cell in zip(classes, row, strict=True))


def card(title: str, value: str, unit: str, lines: Sequence[str]) -> str:
    """An indicator: a large number with its unit and the lines below it."""
    below = "".join(f"<p>{escape(line)}</p>" for line in lines if line)
    return (
        f'<div class="card"><h3>{escape(title)}</h3>'
        f'<div class="value">{escape(value)} <span>{escape(unit)}</span></div>{below}</div>'
    )


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Names and what they are."""
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(what)}</dd>" for name, what in entries)
    return f"<dl>{pairs}</dl>"


def grid(*parts: str) -> str:
    """Parts side by side where there is room."""
    return f'<div class="grid">{"".join(parts)}</div>'


def folded(summary: str, body: str) -> str:
    """A part that opens when asked; in print it is left as it is."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
