"""Records as CSV text: one header, one line a record, an empty cell for what is not known."""

import csv
import io
from collections.abc import Iterable, Sequence


def csv_text(columns: Sequence[str], records: Iterable[object]) -> str:
    """The columns of each record, in order, read from its attributes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        values = (getattr(record, name) for name in columns)
        writer.writerow(["" if value is None else value for value in values])
    return buffer.getvalue()
