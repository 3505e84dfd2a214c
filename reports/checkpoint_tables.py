"""The printed form of what a checkpoint holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group

from reports.formatting import decimal
from reports.tables import definition, table

if TYPE_CHECKING:  # it needs torch, a table does not
    from reference_impl.checkpoints.summary import CheckpointSummary


def checkpoint_tables(folder: Path, summary: "CheckpointSummary") -> Iterator[Group]:
    """Identity and totals, then tensors by component and form."""
    copied = f", {decimal(summary.copied_bytes, 'B')} of them copies" if summary.copied_bytes else ""
    files = f"{summary.files} file{'s' if summary.files > 1 else ''}"
    yield definition(
        f"{folder}: right",
        [
            ("architecture", summary.architecture),
            ("parameters", f"{summary.parameters:,} ({decimal(summary.parameters, '')})"),
            ("MTP modules", f"{summary.mtp_parameters:,} more"),
            ("bytes", f"{summary.n_bytes:,} ({decimal(summary.n_bytes, 'B')}) in {files}{copied}"),
            *(("note", note) for note in summary.notes),
        ],
    )
    rows = [
        (
            part.component,
            part.form,
            part.dtype,
            f"{part.tensors:,}",
            f"{part.parameters:,}",
            decimal(part.n_bytes, "B"),
        )
        for part in summary.parts
    ]
    columns = ("component", "form", "dtype", ">tensors", ">parameters", ">bytes with scales")
    yield table("Tensors", columns, rows)
