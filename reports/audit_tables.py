"""The printed form of an audit: a summary, then the figures of each claim."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from reports.audit import FigureVerdict, Verdict
from reports.formatting import figure, interval
from reports.tables import table


def verdict_tables(verdicts: Sequence[Verdict]) -> Iterator[Table]:
    """One line a claim, then one table a claim."""
    rows = [(one.claim, one.ruling.value, one.title, one.deciding.finding.binding or "-") for one in verdicts]
    yield table("Claims", ("claim", "verdict", "what it says", "limit that binds"), rows)
    for one in verdicts:
        caption = "\n".join(line for line in (one.reading, f"source: {one.source}") if line)
        columns = ("figure", "verdict", ">claimed", ">found", "because")
        yield table(
            f"{one.claim}  {one.title}",
            columns,
            map(_figure_row, one.figures),
            caption=caption,
            fold_first=True,
        )


def _figure_row(one: FigureVerdict) -> tuple[str, ...]:
    finding = one.finding
    found = finding.predicted
    shown = f"{figure(found.value)} {found.unit} {interval(found)} {found.grade.value}" if found else "-"
    off = f" (off by x{figure(finding.factor, 3)})" if finding.factor else ""
    citations = f" [{'; '.join(one.citations)}]" if one.citations else ""
    because = f"{finding.reason}{off}; run: {finding.run}{citations}"
    return one.says, finding.ruling.value, finding.claimed or "-", shown, because
