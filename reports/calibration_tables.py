"""The printed form of a calibration: each kernel's error before and after the fit."""

from collections.abc import Iterator, Mapping
from math import expm1

from rich.console import Group

from reports.calibration import Calibration
from reports.formatting import percent
from reports.tables import table
from simulator.measured.point_fit import PointFit


def calibration_table(done: Calibration) -> Group:
    """A line a kernel; errors are mean absolute."""
    drawn = any(fit.left for fit in done.fits)
    columns = ["family", "dtype", "kernel", ">points", ">sites", ">before", ">fitted", ">unseen", ">90%"]
    columns += [">left out"] if drawn else []
    caption = (
        "before: constants of the other devices; unseen: fits without the site (or point); 90%: half-width"
    )
    notes = [f"{fit.group.label}: {fit.note}" for fit in done.fits if fit.note]
    title = f"Kernel constants of {done.system} from {done.source}"
    rows = [tuple(_row(fit, drawn=drawn)) for fit in done.fits]
    return table(title, (*columns, "note"), rows, caption="\n".join([caption, *notes]))


def _row(fit: PointFit, *, drawn: bool) -> Iterator[str]:
    group = fit.group
    yield from (group.family, group.dtype, group.kernel, str(len(fit.used)), str(fit.after.n_sites))
    for errors in (fit.before, fit.after, fit.unseen):
        yield percent(float(errors.absolute.mean()))
    yield f"±{percent(expm1(fit.unseen.half_width()))}"
    if drawn:
        yield percent(float(fit.left.absolute.mean())) if fit.left else "-"
    yield "see below" if fit.note else ""


def calibration_json(done: Calibration) -> Mapping[str, object]:
    """The same as JSON."""
    return {
        "system": done.system,
        "source": done.source,
        "notes": list(done.notes),
        "entries": [
            fit.entry(done.source)
            | {
                "note": fit.note,
                "left_out_mape": float(fit.left.absolute.mean()) if fit.left else None,
                "left_out_coverage": _coverage(fit),
            }
            for fit in done.fits
        ],
    }


def _coverage(fit: PointFit) -> float | None:
    """Share of the points that were not fitted inside the 90% interval."""
    if fit.left is None:
        return None
    return float((abs(fit.left.log_error) <= fit.unseen.half_width()).mean())
